"""The shipped baseline, through the bundle and the predictor, as the node runs it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ichnode.imaging.volume import Mask, Volume
from ichnode.inference.bundle import Bundle, load_bundle, shipped_bundles
from ichnode.inference.manifest import SegmenterManifest
from ichnode.inference.predictor import Predictor
from ichnode.phantom import IRREGULAR, REGULAR, REVERSED, THIN, TILTED, Geometry
from models.hematoma_baseline import RULES
from tests.volume_factory import mirrored, noisy, phantom_volume, real_volume, slices_of, with_hu

CENTRES_LPS_MM = {  # in the real head
    "left putamen": (22.0, -15.0, 49.0),
    "right occipital lobe": (-29.0, 44.0, 55.0),
    "right cerebellum": (-22.0, 32.0, 6.0),
    "left frontal lobe": (21.0, -49.0, 61.0),
    "right cortex": (-51.0, 5.0, 58.0),
}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(shipped_bundles() / "hematoma-baseline", "cpu", SegmenterManifest)


@pytest.fixture(scope="module")
def found(bundle: Bundle) -> Callable[[Volume], Mask]:
    predictor = Predictor(bundle, "cpu")
    return lambda volume: predictor.predict(volume).hematoma


@pytest.fixture(scope="module")
def real_head() -> Volume:
    return real_volume("ge_head_nct")


def grafted(head: Volume, centre_lps_mm: tuple[float, float, float], axes_mm: tuple[float, ...]) -> tuple[Volume, Mask]:
    """`head` with an ellipsoid of blood, 62 HU with noise and a soft edge, in its soft tissue; and the ellipsoid."""
    grid = head.grid
    rows, columns = np.arange(grid.rows)[:, None, None], np.arange(grid.columns)[None, :, None]
    in_plane = (
        rows * grid.pixel_spacing_mm[0] * grid.column_direction_lps
        + columns * grid.pixel_spacing_mm[1] * grid.row_direction_lps
    )
    radius = np.stack([np.linalg.norm((in_plane + p - centre_lps_mm) / axes_mm, axis=2) for p in grid.positions_lps])
    soft = (head.hu > -20) & (head.hu < 90)
    share = soft / (1 + np.exp(np.clip((radius - 1) * np.mean(axes_mm) * 2, -50, 50)))
    blood = 62 + np.random.default_rng(0).normal(0, 4, head.hu.shape)
    return with_hu(head, head.hu * (1 - share) + blood * share), np.asarray(soft & (radius <= 1))


def test_the_weights_file_holds_the_rules_of_this_source(bundle: Bundle) -> None:
    stored = {name: float(value) for name, value in bundle.network.state_dict().items()}
    assert stored == RULES


def test_the_rules_assume_the_grid_of_the_manifest(bundle: Bundle) -> None:
    spacing_mm = tuple(RULES[f"spacing_{axis}_mm"] for axis in "zyx")
    assert bundle.manifest.grid_spacing_mm == spacing_mm


@pytest.mark.parametrize(
    ("geometry", "hematoma_ml"),
    [
        *((REGULAR, ml) for ml in (2, 10, 40, 120)),
        *((geometry, ml) for geometry in (TILTED, IRREGULAR, THIN, REVERSED) for ml in (2, 40)),
    ],
)
def test_a_hematoma_is_measured_within_15_percent_however_the_head_is_cut(
    found: Callable[[Volume], Mask], geometry: Geometry, hematoma_ml: float
) -> None:
    volume = phantom_volume(hematoma_ml=hematoma_ml, geometry=geometry)
    assert volume.grid.volume_ml(found(volume)) == pytest.approx(hematoma_ml, rel=0.15)


@pytest.mark.parametrize("geometry", [REGULAR, TILTED, IRREGULAR, THIN, REVERSED])
def test_in_a_head_without_hematoma_nothing_is_found(found: Callable[[Volume], Mask], geometry: Geometry) -> None:
    assert not found(phantom_volume(hematoma_ml=0, geometry=geometry)).any()


@pytest.mark.parametrize(
    "variant",
    [
        lambda head: head,
        mirrored,
        lambda head: noisy(head, 10),
        lambda head: with_hu(head, head.hu + 4),
        lambda head: slices_of(head, 4, 24),
    ],
    ids=["as acquired", "mirrored", "noise of 10 HU", "4 HU too bright", "without vertex and chin"],
)
def test_in_a_real_head_without_hemorrhage_nothing_is_found(
    found: Callable[[Volume], Mask], real_head: Volume, variant: Callable[[Volume], Volume]
) -> None:
    assert not found(variant(real_head)).any()


@pytest.mark.parametrize("place", CENTRES_LPS_MM)
def test_blood_painted_into_a_real_head_is_found_where_it_is(
    found: Callable[[Volume], Mask], real_head: Volume, place: str
) -> None:
    head, truth = grafted(real_head, CENTRES_LPS_MM[place], (12.0, 15.0, 12.0))
    hematoma = found(head)
    dice = 2 * (hematoma & truth).sum() / (hematoma.sum() + truth.sum())
    assert dice > 0.8
    assert head.grid.volume_ml(hematoma) == pytest.approx(head.grid.volume_ml(truth), rel=0.25)


@pytest.mark.parametrize("hu", [-1024.0, 0.0, 30.0, 2000.0])
def test_an_image_of_one_substance_gives_probability_zero(bundle: Bundle, hu: float) -> None:
    with torch.inference_mode():
        probability = bundle.network(torch.full((1, 1, 20, 64, 64), hu))
    assert probability.shape == (1, 1, 20, 64, 64)
    assert float(probability.max()) == 0


def test_a_batch_gives_what_its_members_give_alone(bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    x_bcdhw = torch.from_numpy(rng.normal(30, 5, (2, 1, 30, 80, 80)).astype(np.float32))
    x_bcdhw[:, :, :, :6] = x_bcdhw[:, :, :, -6:] = x_bcdhw[..., :6] = x_bcdhw[..., -6:] = x_bcdhw[:, :, -4:] = 900
    x_bcdhw[0, 0, 10:18, 30:50, 30:50] = 65
    with torch.inference_mode():
        together = bundle.network(x_bcdhw)
        alone = torch.cat([bundle.network(x_bcdhw[:1]), bundle.network(x_bcdhw[1:])])
    assert torch.equal(together, alone)
    assert float(together[0].max()) > 0.9
    assert float(together[1].max()) == 0


def test_a_head_may_be_one_plane(bundle: Bundle) -> None:
    hu = torch.full((1, 1, 1, 120, 120), -1000.0)
    hu[..., 20:100, 20:100] = 1000.0
    hu[..., 24:96, 24:96] = 35.0
    with torch.inference_mode():
        assert bundle.network(hu).shape == hu.shape
