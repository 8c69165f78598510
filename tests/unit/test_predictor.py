import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor, nn

from ichnode.domain.findings import Side
from ichnode.errors import InferenceError
from ichnode.imaging.volume import Volume
from ichnode.inference.bundle import Bundle, shipped_bundles
from ichnode.inference.manifest import SegmenterManifest
from ichnode.inference.predictor import Predictor, choose_device
from ichnode.inference.quantify import quantify
from ichnode.phantom import IRREGULAR, REGULAR, THIN, TILTED, Geometry
from tests.volume_factory import grid_of, phantom_volume, slices_of


class Brightness(nn.Module):
    """A network that finds everything above 52 HU inside a box of soft tissue, and remembers what it was given."""

    seen: Tensor

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        self.seen = x_bcdhw
        return ((x_bcdhw[:, :1] > 52) & (x_bcdhw[:, :1] < 90)).float()


class Remembering(nn.Module):
    """A network that finds nothing and remembers all that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.all_seen: list[Tensor] = []

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        self.all_seen.append(x_bcdhw)
        return torch.zeros_like(x_bcdhw[:, :1])


class Halves(nn.Module):
    """A network that finds the same, of the first class to the left (+x) and of the second to the right."""

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        found = ((x_bcdhw[:, 0] > 52) & (x_bcdhw[:, 0] < 90)).float()
        left = (torch.arange(found.shape[-1]) >= found.shape[-1] // 2).float()
        return torch.stack([found * (0.2 + 0.5 * left), found * (0.7 - 0.5 * left)], dim=1)


class OneSide(nn.Module):
    """A network that sees only the left (+x) half of what it is given."""

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        left = (torch.arange(x_bcdhw.shape[-1]) >= x_bcdhw.shape[-1] // 2).float()
        return (x_bcdhw[:, :1] > 52).float() * left


def predictor(network: nn.Module, **values: Any) -> Predictor:
    """The baseline's manifest, with other values, around another network."""
    manifest = json.loads((shipped_bundles() / "hematoma-baseline" / "manifest.json").read_text()) | values
    parsed = SegmenterManifest.model_validate(manifest)
    return Predictor(Bundle(manifest=parsed, network=network, identity=parsed.identity), "cpu")


def cubes(*sides: int) -> Volume:
    """Cubes of 70 HU with these sides in pixels of 2 mm, side by side in air."""
    grid = grid_of((12, 32, 96), slice_mm=2.0, pixel_spacing_mm=(2.0, 2.0))
    hu = np.full(grid.shape, -1000, np.float32)
    for number, side in enumerate(sides):
        hu[1 : 1 + side, 4 : 4 + side, 4 + 30 * number : 4 + 30 * number + side] = 70
    return Volume(hu=hu, grid=grid)


@pytest.mark.parametrize("geometry", [REGULAR, TILTED, IRREGULAR, THIN])
def test_a_prediction_lies_on_the_slices_as_acquired(geometry: Geometry) -> None:
    volume = phantom_volume(hematoma_ml=40, geometry=geometry)
    prediction = predictor(Brightness(), min_volume_ml=10).predict(volume)
    truth = (volume.hu > 52) & (volume.hu < 90)
    inside = prediction.hematoma & truth
    assert prediction.hematoma.shape == volume.grid.shape
    assert volume.grid.volume_ml(inside) == pytest.approx(40, rel=0.2)


def test_components_below_the_minimum_volume_are_dropped() -> None:
    volume = cubes(10, 5)  # 8 mL and 1 mL
    kept = predictor(Brightness(), grid_spacing_mm=[2.0, 2.0, 2.0], min_volume_ml=1.5).predict(volume).hematoma
    everything = predictor(Brightness(), grid_spacing_mm=[2.0, 2.0, 2.0], min_volume_ml=0).predict(volume).hematoma
    assert volume.grid.volume_ml(kept) == pytest.approx(8.0)
    assert volume.grid.volume_ml(everything) == pytest.approx(8.0 + 1.0)


def test_the_minimum_is_measured_with_the_real_slice_extents() -> None:
    volume = cubes(5)  # 1 mL
    spread = Volume(hu=volume.hu, grid=grid_of(volume.grid.shape, slice_mm=4.0, pixel_spacing_mm=(2.0, 2.0)))  # 2 mL
    network = predictor(Brightness(), grid_spacing_mm=[2.0, 2.0, 2.0], min_volume_ml=1.5)
    assert not network.predict(volume).hematoma.any()
    assert network.predict(spread).hematoma.any()


def test_without_windows_the_network_sees_hu() -> None:
    network = Brightness()
    predictor(network).predict(cubes(10))
    assert network.seen.shape[:2] == (1, 1)
    assert network.seen.max() == 70
    assert network.seen.min() < -900


def test_each_window_is_a_channel_from_zero_to_one() -> None:
    network = Brightness()
    predictor(network, windows=[[0, 80], [-100, 300]]).predict(cubes(10))
    assert network.seen.shape[:2] == (1, 2)
    assert network.seen.amax(dim=(0, 2, 3, 4)).tolist() == pytest.approx([70 / 80, 170 / 400])
    assert network.seen.amin(dim=(0, 2, 3, 4)).tolist() == [0, 0]


def test_the_network_is_shown_the_skull_that_a_window_clipped_and_the_volume_stays() -> None:
    volume = phantom_volume(hematoma_ml=30)
    clipped = replace(volume, hu=volume.hu.clip(0, 80))
    network = Brightness()
    predictor(network).predict(clipped)
    assert network.seen.max() > 500
    assert clipped.hu.max() == 80


def test_of_a_tilted_slice_the_network_is_shown_as_much_as_of_one_that_is_not() -> None:
    """Straightened it would be strips of it, one beside the other on many planes."""
    tilted, straight = Brightness(), Brightness()
    predictor(tilted).predict(slices_of(phantom_volume(hematoma_ml=40, geometry=TILTED), 15, 16))
    predictor(straight).predict(slices_of(phantom_volume(hematoma_ml=40, geometry=REGULAR), 15, 16))
    assert tilted.seen.shape[2] == straight.seen.shape[2]


def test_the_hematoma_is_that_of_all_types_together() -> None:
    volume = cubes(10)
    prediction = predictor(Halves(), grid_spacing_mm=[2.0, 2.0, 2.0], classes=["IPH", "SDH"]).predict(volume)

    assert volume.grid.volume_ml(prediction.hematoma) == pytest.approx(8.0)
    np.testing.assert_allclose(prediction.probability[prediction.hematoma], 0.9, rtol=1e-5)
    assert prediction.classes == ("IPH", "SDH")
    assert prediction.types is not None
    assert {int(n): int((prediction.types == n).sum()) for n in np.unique(prediction.types[prediction.hematoma])} == {
        1: 500,
        2: 500,
    }
    columns = np.nonzero(prediction.types == 1)[2]
    assert columns.min() > np.nonzero(prediction.types == 2)[2].max()  # columns grow to the left


def test_a_network_that_tells_no_types_apart_gives_none() -> None:
    assert predictor(Brightness()).predict(cubes(10)).types is None


def test_probabilities_that_are_no_numbers_are_an_error_and_not_nothing_found() -> None:
    class Broken(Brightness):
        def forward(self, x_bcdhw: torch.Tensor) -> torch.Tensor:
            return super().forward(x_bcdhw) * float("nan")

    with pytest.raises(InferenceError, match="not numbers"):
        predictor(Broken()).predict(cubes(10))


def test_the_network_sees_the_head_and_some_air_only() -> None:
    network = Brightness()
    volume = cubes(10)
    prediction = predictor(network, grid_spacing_mm=[2.0, 2.0, 2.0]).predict(volume)

    assert network.seen.shape[2:] == (12, 14, 14)  # 10 voxels, 2 voxels of air
    assert volume.grid.volume_ml(prediction.hematoma) == pytest.approx(8.0)


def test_air_alone_is_seen_whole_and_nothing_is_found_in_it() -> None:
    assert not predictor(Brightness()).predict(cubes()).hematoma.any()


def test_a_second_look_is_flipped_and_the_mean_of_both_counts_in_place() -> None:
    volume = cubes(10)
    once, both = (
        predictor(OneSide(), grid_spacing_mm=[2.0, 2.0, 2.0], second_look=again).predict(volume).probability
        for again in (False, True)
    )
    within = binary_erosion(volume.hu > 0)
    within[:, :, 8:10] = False  # the middle, where the halves meet
    assert sorted(np.unique(once[within])) == [0, 1]
    assert np.unique(both[within]).tolist() == [0.5]


def test_a_second_look_lies_half_a_voxel_off() -> None:
    network = Remembering()
    hu = np.random.default_rng(5).normal(40, 10, (12, 16, 16)).astype(np.float32)
    volume = Volume(hu=hu, grid=grid_of(hu.shape, slice_mm=2.0, pixel_spacing_mm=(2.0, 2.0)))
    predictor(network, grid_spacing_mm=[2.0, 2.0, 2.0], second_look=True).predict(volume)

    first, second = (seen[0, 0].numpy() for seen in network.all_seen)
    assert second.shape == tuple(count + 1 for count in first.shape)
    corners = [first[z : z + 11, y : y + 15, x : x + 15] for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    np.testing.assert_allclose(second[1:-1, 1:-1, 1:-1], np.mean(corners, axis=0)[:, :, ::-1], atol=1e-3)


def test_the_input_of_a_neural_network_lies_as_convolutions_like_it() -> None:
    network = Brightness()
    predictor(network, family="neural network", windows=[[0, 80], [-100, 300]]).predict(cubes(10))
    assert network.seen.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_slices_go_all_the_way_to_findings(count: int) -> None:
    volume = slices_of(phantom_volume(hematoma_ml=40), 15, 15 + count)
    bundle = predictor(Halves(), grid_spacing_mm=[5.0, 1.0, 1.0], classes=["IPH", "IVH"], min_volume_ml=1)
    findings = quantify(bundle.predict(volume), volume, bundle.bundle.manifest.thresholds)

    truth_ml = volume.grid.volume_ml((volume.hu > 52) & (volume.hu < 90))
    assert findings.hematoma is not None
    assert findings.hematoma.volume_ml == pytest.approx(truth_ml, rel=0.15)
    assert findings.hematoma.side == Side.LEFT
    assert sum(part.volume_ml for part in findings.hematoma.parts) == pytest.approx(findings.hematoma.volume_ml)


def test_the_prediction_names_its_model() -> None:
    prediction = predictor(Brightness(), version="9.9").predict(cubes(10))
    assert (prediction.model.name, prediction.model.version) == ("hematoma-baseline", "9.9")


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == choose_device("cuda:0") == "cuda:0"
    assert choose_device("cpu") == "cpu"


def test_a_gpu_that_is_absent_is_refused_and_never_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == "cpu"
    with pytest.raises(InferenceError, match="cuda:0"):
        choose_device("cuda:0")


def test_every_gpu_of_the_machine_may_be_wanted_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda:0"
    assert choose_device("cuda:1") == "cuda:1"
    for absent in ("cuda:2", "cuda:-1", "cuda", "tpu"):
        with pytest.raises(InferenceError, match=f"no device {absent}"):
            choose_device(absent)
