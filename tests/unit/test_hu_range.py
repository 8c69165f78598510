"""CT whose values are not HU: exported as pictures of 8 bits, or without the rescale that they need."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ichnode.domain.findings import Caveat
from ichnode.domain.reasons import Reason
from ichnode.imaging.quality import checked_head
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.volume import Volume
from ichnode.phantom import REGULAR, head_ct
from tests.results_factory import shared_data
from tests.series_factory import Datasets, altered, refusal_of, stored_series

NO_RESCALE: dict[str, Any] = {"RescaleSlope": None, "RescaleIntercept": None}
NO_WINDOW: dict[str, Any] = {"WindowWidth": None, "WindowCenter": None}


@pytest.fixture(scope="module")
def head() -> Datasets:
    return list(head_ct(hematoma_ml=30, geometry=replace(REGULAR, rows=128, columns=128)).datasets)


def stored(datasets: Sequence[Dataset], values: Callable[[np.ndarray], np.ndarray], **header: Any) -> Datasets:
    """The series with other stored values, made from its HU, unsigned, and a rescale that does nothing."""
    plain = {"PixelRepresentation": 0, "PixelPaddingValue": None, "RescaleSlope": 1, "RescaleIntercept": 0}
    series = []
    for dataset in datasets:
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        bits = header.get("BitsAllocated", 16)
        pixels = np.rint(values(hu)).astype(f"<u{bits // 8}").tobytes()
        size = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
        series.append(altered(dataset, **plain | size | header, PixelData=pixels))
    return series


def exported(datasets: Sequence[Dataset], low_hu: float, high_hu: float, **header: Any) -> Datasets:
    """The series as pictures with 256 grays from `low_hu` to `high_hu`."""
    return stored(datasets, lambda hu: 255 * np.clip((hu - low_hu) / (high_hu - low_hu), 0, 1), **header)


def volume_of(datasets: Datasets, folder: Path) -> Volume:
    return read_volume(stored_series(datasets, folder))


def error_hu(estimated: Volume, datasets: Sequence[Dataset]) -> float:
    """Mean error where there is brain and blood; the slices of `datasets` ascend."""
    true = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in datasets])
    tissue = (true > 20) & (true < 70)
    return float(np.abs(estimated.hu - true)[tissue].mean())


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "header",
    [{"WindowCenter": 40, "WindowWidth": 80}, {"WindowCenter": 127, "WindowWidth": 255}, NO_WINDOW, NO_RESCALE],
    ids=["its window", "the window of the picture", "no window", "no rescale"],
)
def test_an_8_bit_export_becomes_hu_with_a_caveat(
    head: Datasets, header: dict[str, Any], bits: int, tmp_path: Path
) -> None:
    volume = volume_of(exported(head, 0, 80, BitsAllocated=bits, **header), tmp_path)

    assert volume.caveats == (Caveat.EIGHT_BIT,)
    assert error_hu(volume, head) < 0.5
    checked_head(volume)


@pytest.mark.parametrize(("center", "width"), [(35, 100), (50, 100), (40, 400)])
def test_the_window_of_the_header_counts_where_it_shows_a_brain(
    head: Datasets, center: int, width: int, tmp_path: Path
) -> None:
    low, high = center - width / 2, center + width / 2
    volume = volume_of(exported(head, low, high, WindowCenter=center, WindowWidth=width), tmp_path)

    assert error_hu(volume, head) < 0.5


def test_an_8_bit_export_of_a_real_head_becomes_hu(tmp_path: Path) -> None:
    head = shared_data("ge_head_nct")
    head = sorted(head, key=lambda ds: float(ds.ImagePositionPatient[2]))
    volume = volume_of(exported(head, 0, 80, WindowCenter=40, WindowWidth=80), tmp_path)

    assert error_hu(volume, head) < 0.5
    checked_head(volume)


@pytest.mark.parametrize("high_hu", [80, 255])
def test_hu_that_were_clipped_to_what_8_bits_hold_stay_as_they_are(
    head: Datasets, high_hu: float, tmp_path: Path
) -> None:
    volume = volume_of(stored(head, lambda hu: np.clip(hu, 0, high_hu)), tmp_path)

    assert volume.caveats == ()
    assert error_hu(volume, head) < 0.5


@pytest.mark.parametrize("header", [{}, NO_RESCALE], ids=["a rescale that does nothing", "no rescale"])
def test_a_lost_offset_is_found_again(head: Datasets, header: dict[str, Any], tmp_path: Path) -> None:
    volume = volume_of(stored(head, lambda hu: np.maximum(hu + 1024, 0), **header), tmp_path)

    assert volume.caveats == (Caveat.LOST_OFFSET,)
    assert error_hu(volume, head) < 0.5
    checked_head(volume)


def test_stored_values_that_look_like_hu_are_taken_for_hu_with_a_caveat(head: Datasets, tmp_path: Path) -> None:
    volume = volume_of([altered(ds, **NO_RESCALE) for ds in head], tmp_path)

    assert volume.caveats == (Caveat.NO_RESCALE,)
    assert error_hu(volume, head) == 0


def test_a_usual_head_has_no_caveat(head: Datasets, tmp_path: Path) -> None:
    volume = volume_of(head, tmp_path)

    assert volume.caveats == ()
    assert error_hu(volume, head) == 0


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("inverted", lambda head: stored(head, lambda hu: 255 - 255 * np.clip(hu / 80, 0, 1))),
        ("a bone window", lambda head: exported(head, -500, 1500, WindowCenter=500, WindowWidth=2000)),
        ("half as steep without a rescale", lambda head: stored(head, lambda hu: (hu + 1024) / 2, **NO_RESCALE)),
        ("one gray on black", lambda head: stored(head, lambda hu: np.where(hu > 0, 110, 0))),
    ],
)
def test_values_in_which_no_brain_is_recognised_are_refused(
    head: Datasets, name: str, make: Callable[[Datasets], Datasets], tmp_path: Path
) -> None:
    assert refusal_of(read_volume, stored_series(make(head), tmp_path)).reason == Reason.NO_RESCALE
