import time
from dataclasses import replace

import numpy as np
import pytest

from ichnode.domain.findings import Caveat
from ichnode.domain.reasons import Reason
from ichnode.errors import RefusedSeries
from ichnode.imaging.quality import checked_head
from ichnode.phantom import IRREGULAR, REGULAR, REVERSED, THIN, TILTED, Geometry
from tests.volume_factory import cut_to_columns, mirrored, noisy, phantom_volume, real_volume, slices_of, with_hu


@pytest.mark.parametrize("geometry", [REGULAR, TILTED, IRREGULAR, THIN, REVERSED])
def test_a_head_passes_however_it_is_cut(geometry: Geometry) -> None:
    assert checked_head(phantom_volume(hematoma_ml=120, geometry=geometry)).caveats == ()


def test_a_real_head_passes_also_mirrored_and_noisy() -> None:
    head = real_volume("ge_head_nct")
    for variant in (head, mirrored(head), noisy(head, 15)):
        assert checked_head(variant).caveats == ()


@pytest.mark.parametrize(
    ("first", "last", "caveats"),
    [
        (4, 28, ()),
        (8, 28, ()),
        (10, 28, (Caveat.CUT_OFF_BELOW,)),
        (0, 24, (Caveat.CUT_OFF_ABOVE,)),
        (4, 24, (Caveat.CUT_OFF_ABOVE,)),
    ],
)
def test_a_real_head_without_its_face_or_its_vertex_passes_and_says_so(
    first: int, last: int, caveats: tuple[Caveat, ...]
) -> None:
    assert checked_head(slices_of(real_volume("ge_head_nct"), first, last)).caveats == caveats


def test_a_head_that_the_images_do_not_reach_across_says_so() -> None:
    head = real_volume("ge_head_nct")
    columns = np.flatnonzero((head.hu[14] > -200).sum(axis=0) > 100)
    half = cut_to_columns(head, int(columns[0]), int(columns.mean()))
    assert checked_head(half).caveats == (Caveat.CUT_OFF_ASIDE,)


def test_a_caveat_about_the_values_stays() -> None:
    head = replace(slices_of(real_volume("ge_head_nct"), 0, 24), caveats=(Caveat.EIGHT_BIT,))
    assert checked_head(head).caveats == (Caveat.EIGHT_BIT, Caveat.CUT_OFF_ABOVE)


def test_a_head_exported_through_a_narrow_window_passes() -> None:
    head = real_volume("ge_head_nct")
    checked_head(with_hu(head, np.clip(head.hu, 0, 80)))


def test_a_head_after_craniectomy_passes() -> None:
    head = real_volume("ge_head_nct")
    hu = head.hu.copy()
    left_parietal = hu[12:21, 150:330, 330:]
    left_parietal[left_parietal > 150] = 40
    checked_head(with_hu(head, hu))


@pytest.mark.parametrize("series", ["philips_phantom_study/S2010", "philips_phantom_study/S2030"])
def test_a_plastic_head_full_of_air_is_refused_as_no_brain(series: str) -> None:
    with pytest.raises(RefusedSeries) as refused:
        checked_head(real_volume(series))
    assert refused.value.reason == Reason.NO_BRAIN


@pytest.mark.parametrize("hu", [-1000, 0, 40, 1000])
def test_one_uniform_substance_is_no_brain(hu: float) -> None:
    head = phantom_volume(hematoma_ml=0)
    with pytest.raises(RefusedSeries) as refused:
        checked_head(with_hu(head, np.full_like(head.hu, hu)))
    assert refused.value.reason == Reason.NO_BRAIN


@pytest.mark.parametrize(("first", "last"), [(18, 28), (0, 14)])
def test_a_part_of_a_real_head_is_refused_as_partial(first: int, last: int) -> None:
    with pytest.raises(RefusedSeries) as refused:
        checked_head(slices_of(real_volume("ge_head_nct"), first, last))
    assert refused.value.reason == Reason.PARTIAL_HEAD
    assert "mm" in refused.value.detail


def test_the_gate_is_quick() -> None:
    head = phantom_volume(hematoma_ml=10, geometry=THIN)
    started = time.process_time()
    checked_head(head)
    assert time.process_time() - started < 0.3
