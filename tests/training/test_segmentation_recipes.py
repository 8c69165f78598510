"""The learning rate, the inputs, and the bundle at the end."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import torch

from ichnode.inference.bundle import load_bundle
from ichnode.inference.manifest import SegmenterManifest, Thresholds
from ichnode.inference.predictor import _channels
from tests.training.fit_factory import TINY, Cubes, tiny_recipe
from training.fit.checkpoint import LAST, begin, save
from training.fit.recipes import cpu
from training.losses.segmentation import segmentation_loss
from training.segmentation.export import export_bundle
from training.segmentation.inputs import WINDOWS_HU, channels
from training.segmentation.system import SegmenterSystem


def test_the_learning_rate_warms_up_stays_and_falls_at_the_end() -> None:
    recipe = tiny_recipe(learning_rate=1.0, warm_up_steps=10, steps=100, decay_steps=20)
    rates = [recipe.learning_rate_at(step) for step in (0, 4, 9, 50, 80, 90, 99)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.05])


def test_in_a_cosine_it_falls_from_the_end_of_the_warm_up_on_or_over_as_many_steps_as_are_asked_for() -> None:
    whole = tiny_recipe(learning_rate=1.0, warm_up_steps=10, steps=110, schedule="cosine")
    rates = [whole.learning_rate_at(step) for step in (4, 9, 10, 35, 60, 85, 110)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464, 0.0], abs=1e-4)
    end = replace(whole, decay_steps=20)
    assert [end.learning_rate_at(step) for step in (90, 100, 105)] == pytest.approx([1.0, 0.5, 0.1464], abs=1e-4)
    assert replace(whole, steps=None).learning_rate_at(10**6) == 1.0


def test_it_is_late_once_the_learning_rate_falls() -> None:
    recipe = tiny_recipe(steps=100, decay_steps=20)
    assert [recipe.is_late(step) for step in (0, 79, 80, 99)] == [False, False, True, True]
    assert not tiny_recipe(steps=None).is_late(10**6)


def test_hemorrhage_weighs_less_of_its_own_late() -> None:
    system = SegmenterSystem(config=TINY, hemorrhage_weight=0.5, hemorrhage_weight_late=0.1)
    batch = Cubes().batch(0)
    answer = system.answer(system.network(), batch)
    early, late = (system.losses(answer, batch, late=late)["segmentation"].item() for late in (False, True))
    expected = [segmentation_loss(answer, batch.labels_bdhw, weight).item() for weight in (0.5, 0.1)]
    assert [early, late] == pytest.approx(expected)
    assert early != pytest.approx(late)


def test_the_grid_of_a_recipe_is_centred() -> None:
    grid = SegmenterSystem().grid
    assert grid.origin_lps == (-95.0, -111.0, -77.5)


def test_a_recipe_on_other_voxels_fills_the_same_box() -> None:
    other = SegmenterSystem().on((2.5, 1.0, 1.0))
    assert other.shape == (64, 224, 192)
    assert other.grid.spacing_mm == (2.5, 1.0, 1.0)


def test_training_reads_what_the_predictor_reads() -> None:
    hu_dhw = torch.randn(4, 5, 6) * 300
    assert torch.equal(channels(hu_dhw[None]), _channels(hu_dhw.numpy(), WINDOWS_HU))


def test_an_exported_bundle_says_what_the_checkpoint_says(tmp_path: Path) -> None:
    recipe = cpu(SegmenterSystem())
    progress = begin(recipe)
    save(progress, recipe, tmp_path / LAST)
    manifest = export_bundle(
        tmp_path / LAST,
        tmp_path / "hematoma",
        version="0.1",
        card="A test.",
        trained_on="nothing",
        thresholds=Thresholds(found=0.5, strict=0.8, lenient=0.2),
        temperature=1.5,
        second_look=True,
        min_volume_ml=0.1,
        created=date(2026, 11, 21),
        reference="none",
    )
    assert (manifest.name, manifest.family, manifest.grid_spacing_mm) == ("hematoma", "neural network", (5, 2, 2))
    assert manifest.second_look
    assert (tmp_path / "hematoma" / "weights.safetensors").stat().st_size < 10e6
    network = load_bundle(tmp_path / "hematoma", "cpu", SegmenterManifest).network
    progress.average.temperature.fill_(1.5)
    x_bcdhw = torch.rand(1, 3, 8, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(x_bcdhw), progress.average(x_bcdhw), atol=0.02, rtol=0)
