"""System A: its tasks, their truth, and GradNorm in the loop."""

from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.followup import Followup, FollowupConfig, Prediction, brain_alone
from models.segmenter import WINDOWS_HU, Segmenter, SegmenterConfig
from tests.training.fit_factory import nothing_to_validate
from tests.training.patients_factory import patients
from tests.training.test_patients_command import SMALL, STAGES
from training.fit.checkpoint import LAST, begin, read
from training.fit.recipe import Recipe
from training.fit.trainer import fit
from training.followup.export import errors
from training.followup.system import FollowupSystem, seen_of
from training.followup.validation import change_and_hemorrhage_score
from training.losses.followup import generation_loss
from training.patients.batch import Patients

SHAPE = (1, 1, 8, 16, 16)


def test_hemorrhage_is_late_hemorrhage_after_thrombectomy_and_else_expansion() -> None:
    batch = patients(expansion=(torch.nan, torch.nan, 1, 0), late=(0, 1, torch.nan, torch.nan))
    assert seen_of(batch).hemorrhage_b.tolist() == [0, 1, 1, 0]


def test_an_undecided_classifier_costs_the_logarithm_of_two_and_an_unknown_patient_nothing() -> None:
    x = seen_of(patients()).x_bcdhw
    answer = Prediction(x, torch.zeros(4, 2), x[:, 0], torch.zeros(4, 1))
    system = FollowupSystem(generates=False)
    losses = system.losses(answer, patients(expansion=(0, 1, torch.nan, torch.nan)), late=False)
    assert {name: loss.item() for name, loss in losses.items()} == {"classification": pytest.approx(log(2))}
    unknown = system.losses(answer, patients(expansion=(torch.nan,) * 4), late=False)
    assert unknown["classification"].item() == 0


def test_an_error_at_blood_costs_five_times_one_elsewhere_and_one_outside_the_brain_none() -> None:
    true = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.3
    brain, blood = torch.zeros(SHAPE, dtype=torch.bool), torch.zeros(SHAPE, dtype=torch.bool)
    brain[..., :12], blood[..., 2:4] = True, True

    def cost(column: int) -> float:
        wrong = true.clone()
        wrong[..., column] += 0.01
        structure = generation_loss(wrong, true, torch.zeros_like(brain), blood)
        return float(generation_loss(wrong, true, brain, blood) - structure)

    assert float(generation_loss(true, true, brain, blood)) == pytest.approx(0, abs=1e-5)
    assert cost(3) == pytest.approx(5 * cost(8), rel=1e-3)
    assert cost(8) == pytest.approx(0.01 / 12, rel=1e-2)
    assert cost(14) == pytest.approx(0, abs=1e-6)


def test_a_copy_of_the_first_ct_foresees_nothing() -> None:
    class Says(nn.Module):
        def __init__(self, later: bool) -> None:
            super().__init__()
            self.later = later

        def forward(self, hu_bcdhw: torch.Tensor, brain_bcdhw: torch.Tensor) -> Prediction:
            ct = seen_of(batch).later_bcdhw if self.later else brain_alone(hu_bcdhw, brain_bcdhw)
            return Prediction(ct, torch.eye(4)[:, 2:], ct[:, 0], torch.zeros(4, 1))

    batch = patients(expansion=(0, 0, 0, 1))
    batch = replace(batch, later_hu_bdhw=batch.hu_bdhw + 9)
    copied, foreseen = (
        change_and_hemorrhage_score(Says(later), [batch])
        for later in (False, True)  # type: ignore[arg-type]
    )
    assert copied == pytest.approx(0.5)
    assert foreseen == pytest.approx(1.0)


@dataclass(frozen=True)
class Numbered:
    """Patients of noise."""

    def batch(self, number: int) -> Patients:
        made = patients()
        noise = torch.randn((4, 8, 16, 16), generator=torch.Generator().manual_seed(number))
        labels = (noise > 1.5).to(torch.uint8)
        return replace(
            made,
            hu_bdhw=30 + 10 * noise,
            labels_bdhw=labels,
            later_hu_bdhw=33 + 10 * noise,
            later_labels_bdhw=labels,
            brain_bdhw=torch.ones_like(labels, dtype=torch.bool),
        )


def recipe(steps: int) -> Recipe:
    config = FollowupConfig(
        shape=(8, 16, 16), stages=STAGES, heads=2, density_blocks=1, interactive_blocks=1, dropout=0.1, pools=True
    )
    return Recipe(system=FollowupSystem(config=config), makers=0, threads=1, warm_up_steps=2, steps=steps)


def test_a_training_that_begins_from_another_remembers_its_own_patients_alone() -> None:
    weights = dict(begin(recipe(1)).network.state_dict())
    weights["pooled.0.shown"], weights["pooled.0.mean"] = torch.tensor(2000.0), torch.ones(8)
    remembered = begin(recipe(1), weights).network.pooled[0]
    remembered.train()(torch.full((1, 8), 7.0))
    assert remembered.shown == 1
    assert torch.equal(remembered.mean, torch.full((8,), 7.0))


def test_gradnorm_moves_the_weights_of_the_tasks_and_is_resumed(tmp_path: Path) -> None:
    fit(recipe(26), Numbered(), nothing_to_validate, tmp_path / "whole")
    fit(recipe(22), Numbered(), nothing_to_validate, tmp_path / "halves")
    fit(recipe(26), Numbered(), nothing_to_validate, tmp_path / "halves")
    whole, halves = (read(tmp_path / run / LAST, FollowupSystem) for run in ("whole", "halves"))
    weights = whole["balance"]["weights"]
    assert not torch.equal(weights, torch.ones(2))
    assert float(weights.sum()) == pytest.approx(2)
    assert torch.equal(halves["balance"]["weights"], weights)
    assert all(torch.equal(halves["network"][name], value) for name, value in whole["network"].items())


def test_it_begins_from_a_segmenter_whose_encoder_stays(tmp_path: Path) -> None:
    config = FollowupConfig(
        shape=(8, 16, 16), stages=STAGES, windows=WINDOWS_HU, heads=2, density_blocks=1, interactive_blocks=1
    )
    system = FollowupSystem(config=config, encoder_learns=False)
    segmenter = Segmenter(SegmenterConfig(stages=STAGES, supervised=1)).state_dict()
    taken = system.weights_from(Segmenter(SegmenterConfig(stages=STAGES, supervised=1)))
    assert taken is not None
    assert {name.split(".")[0] for name in taken} == {"stem", "encoder", "decoder"}

    taken = {name: segmenter[name] for name in taken}
    made = Recipe(system=system, makers=0, threads=1, warm_up_steps=0, steps=2)
    fit(made, Numbered(), nothing_to_validate, tmp_path, weights=taken)
    network = read(tmp_path / LAST, FollowupSystem)["network"]
    stayed = {name.split(".")[0] for name, weight in taken.items() if torch.equal(network[name], weight)}
    assert stayed == {"stem", "encoder"}
    assert not any(torch.equal(network[n], weight) for n, weight in taken.items() if n.startswith("decoder."))

    assert FollowupSystem().weights_from(Segmenter(SegmenterConfig(stages=STAGES, supervised=1))) is None
    assert system.weights_from(Followup(config)) is not None


def test_a_bundle_says_its_errors_in_the_use_that_patients_are_known_of() -> None:
    said = torch.linspace(-1, 1, 40, dtype=torch.float64).numpy()
    truth = (said > 0).astype(np.float64)
    truth[[0, -1]] = truth[[-1, 0]]
    unknown, all_alike = np.full(40, np.nan), np.zeros(40)
    assert list(errors(np.stack([said, truth, unknown], axis=1))) == ["after_thrombectomy"]
    assert list(errors(np.stack([said, unknown, truth], axis=1))) == ["spontaneous"]
    assert list(errors(np.stack([said, truth, truth], axis=1))) == ["after_thrombectomy", "spontaneous"]
    with pytest.raises(ValueError, match="spontaneous: of all patients the same is true"):
        errors(np.stack([said, truth, all_alike], axis=1))


def test_gradnorm_needs_two_tasks() -> None:
    assert FollowupSystem().balance() is not None
    for alone in ({"generates": False}, {"classifies": False}, {"balanced": False}):
        assert FollowupSystem(**alone).balance() is None
    network = SMALL["followup"].network()
    assert isinstance(network, Followup)
    assert len(SMALL["followup"].shared(network)) > 0
