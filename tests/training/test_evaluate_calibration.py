from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ichnode.imaging.volume import Volume
from ichnode.inference.bundle import load_bundle, shipped_bundles
from ichnode.inference.manifest import SegmenterManifest
from tests.volume_factory import grid_of
from training.evaluate.calibration import (
    EDGES,
    choose_thresholds,
    expected_calibration_error,
    fit_temperature,
    histogram,
    reliability,
)
from training.evaluate.temperature import temperature_of
from training.segmentation.system import Heads

GRID = grid_of((2, 20, 20), slice_mm=5.0, pixel_spacing_mm=(2.0, 2.0))  # 0.02 mL a voxel, 16 mL in all
HEAD = Volume(hu=np.full(GRID.shape, 35, np.float32), grid=GRID)


def of(probability: np.ndarray, labels: np.ndarray, volume: Volume = HEAD) -> np.ndarray:
    return histogram(probability.astype(np.float32), labels.astype(np.uint8), volume)


def sphere_like(predicted_ml: float, true_ml: float) -> np.ndarray:
    """Probability 0.9 where hemorrhage is predicted, so that a patient's volume changes at one threshold only."""
    order = np.arange(np.prod(GRID.shape)).reshape(GRID.shape) * 0.02
    return of(np.where(order < predicted_ml - 0.01, 0.9, 0.0), order < true_ml - 0.01)


def ramp(true_ml: float) -> np.ndarray:
    """Probability falls evenly from 1 to 0 over 16 mL, so that at threshold t the volume is 16 (1 - t)."""
    order = np.arange(np.prod(GRID.shape)).reshape(GRID.shape) * 0.02
    return of(1 - (order + 0.01) / 16, order < true_ml - 0.01)


def test_air_and_unknown_voxels_are_left_out() -> None:
    hu = HEAD.hu.copy()
    hu[0] = -1000
    labels = np.zeros(GRID.shape)
    labels[1, :10] = 255
    found = of(np.full(GRID.shape, 0.5), labels, Volume(hu=hu, grid=GRID))
    assert found[0].sum() == pytest.approx(4.0)


def test_a_probability_that_comes_true_as_often_as_it_says_has_no_error() -> None:
    labels = np.zeros(GRID.shape)
    labels[:, :5] = 1  # a quarter
    assert expected_calibration_error(of(np.full(GRID.shape, 0.25), labels)[None]) == pytest.approx(0, abs=1e-6)


def test_the_calibration_error_is_the_mean_distance_weighed_by_volume() -> None:
    probability, labels = np.zeros(GRID.shape), np.zeros(GRID.shape)
    probability[0], labels[0, :10] = 0.8, 1  # 8 mL: said 0.8, is 0.5; the other 8 mL: said 0, is 0
    found = of(probability, labels)[None]
    assert expected_calibration_error(found) == pytest.approx(0.15, abs=1e-6)
    predicted, true, head_ml = reliability(found)
    assert predicted[head_ml > 0] == pytest.approx([0.0, 0.8], abs=1e-6)
    assert true[head_ml > 0] == pytest.approx([0.0, 0.5])
    assert head_ml[head_ml > 0] == pytest.approx([8.0, 8.0])


@given(st.floats(0.4, 4.0))
def test_the_temperature_that_logits_were_multiplied_with_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (6000, 3))
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chance.cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1).astype(np.uint8)
    labels_with_unknown = np.concatenate([labels, np.full(500, 255, np.uint8)])
    scaled = np.concatenate([logits * temperature, rng.normal(0, 9, (500, 3))])
    assert fit_temperature(scaled, labels_with_unknown) == pytest.approx(temperature, rel=0.1)


def test_log_probabilities_serve_as_logits() -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(0, 2, (500, 3)), rng.integers(0, 3, 500).astype(np.uint8)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert fit_temperature(log_p, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-3)


def test_the_found_threshold_has_the_best_dice() -> None:
    chosen = choose_thresholds([ramp(4.0)])  # the truth is what has at least 0.75
    assert chosen.found == pytest.approx(0.75, abs=0.02)


def test_strict_and_lenient_enclose_the_true_volume_in_nine_of_ten_patients() -> None:
    rng = np.random.default_rng(5)
    volumes = rng.uniform(4.0, 12.0, 200)
    chosen = choose_thresholds([ramp(ml) for ml in volumes])
    fresh = rng.uniform(4.0, 12.0, 1000)
    low, high = 16 * (1 - chosen.strict), 16 * (1 - chosen.lenient)
    assert np.mean((low <= fresh) & (fresh <= high)) == pytest.approx(0.9, abs=0.06)
    assert low == pytest.approx(4.4, abs=0.4)
    assert high == pytest.approx(11.6, abs=0.4)


def test_a_volume_that_no_threshold_reaches_opens_the_range_to_its_end() -> None:
    chosen = choose_thresholds([sphere_like(2.0, 8.0)] * 3)
    assert chosen.lenient == pytest.approx(EDGES[0], abs=1e-4)
    assert chosen.strict >= chosen.found


def test_patients_without_hemorrhage_alone_choose_no_thresholds() -> None:
    with pytest.raises(ValueError, match="patient with hemorrhage"):
        choose_thresholds([sphere_like(1.0, 0.0)])


class _Sure(torch.nn.Module):
    """Probability of the five types, too sure by a factor of the log-odds: brighter is likelier the first type."""

    def forward(self, x_bcdhw: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(1, 6, *x_bcdhw.shape[2:])
        logits[:, 1] = 4 * x_bcdhw[:, 0] - 2
        return torch.softmax(2 * logits, dim=1)[:, 1:]


class _Noisy:
    """Heads whose labels follow the unsharpened odds of `_Sure`."""

    def batch(self, number: int) -> Heads:
        torch.manual_seed(number)
        hu_bdhw = 15 + 70 * torch.rand(1, 4, 64, 64)
        logits = torch.zeros(6, 4, 64, 64)
        logits[1] = 4 * (hu_bdhw[0] - 15) / 70 - 2
        chance = torch.softmax(logits, 0).movedim(0, -1).flatten(0, -2)
        labels = torch.multinomial(chance, 1).reshape(1, 4, 64, 64).to(torch.uint8)
        return Heads(hu_bdhw=hu_bdhw, labels_bdhw=labels)


def test_a_network_that_is_twice_too_sure_gets_the_temperature_two() -> None:
    bundle = replace(load_bundle(shipped_bundles() / "hematoma-baseline", "cpu", SegmenterManifest), network=_Sure())
    assert temperature_of(bundle, _Noisy(), 3) == pytest.approx(2.0, rel=0.1)
