"""The bundle of system D says how it errs, as measured, and loads."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.inference.bundle import load_bundle
from ichnode.inference.manifest import ExpansionManifest
from models.expansion import DEFINITIONS, DenseFollowup
from tests.training.fit_factory import nothing_to_validate
from tests.training.test_expansion import Pair
from training.expansion.export import export_expansion
from training.expansion.measure import calibration, measured
from training.expansion.system import ExpansionSystem, seen_of
from training.fit.checkpoint import LAST
from training.fit.recipe import Recipe
from training.fit.trainer import fit
from training.patients.batch import BECAME, KNOWN, Patients
from training.patients.plans import PLANS
from training.patients.simulated import validation_of
from training.simulate.cohort import VALIDATION_SEEDS
from training.simulate.planes import around_origin
from training.simulate.styles import TRAINING

SYSTEM = ExpansionSystem(shape=(8, 16, 16), spacing_mm=(5.0, 10.0, 10.0))  # half a mL a voxel


SYSTEM_GRID = around_origin(SYSTEM.shape, SYSTEM.spacing_mm)


class Sometimes(Pair):
    """Every other pair expands."""

    def batch(self, number: int) -> Patients:
        batch = super().batch(number)
        batch.became_bn[0, : len(DEFINITIONS)] = float(number % 2)
        return batch


def test_what_a_network_is_told_of_a_patient_may_be_the_header_alone() -> None:
    plan = PLANS["expansion"]
    source = replace(plan.patients(VALIDATION_SEEDS), grid=SYSTEM_GRID)
    assert (source.unknown, source.header_alone) == (0.1, 0.5)
    told = validation_of(source, TRAINING)._told([[1.0] * len(KNOWN)] * 4, 0)
    assert [name for name, value in zip(KNOWN, told[0].tolist(), strict=True) if value == 1] == ["baseline_ml", "age"]


def test_a_score_that_is_too_sure_is_toned_down() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
    fitted = calibration(3 * logits + 1, truth, seed=0)
    assert fitted.scale == pytest.approx(1 / 3, rel=0.1)
    assert fitted.shift == pytest.approx(-1 / 3, abs=0.1)
    few = calibration(3 * logits[:100] + 1, truth[:100], seed=0)
    assert few.spread > 3 * fitted.spread


def test_a_network_that_does_not_tell_who_expands_has_no_calibration() -> None:
    with pytest.raises(ValueError, match="does not tell who expands"):
        calibration(np.array([3.0, 2.0, -1.0, -2.0]), np.array([0.0, 0.0, 1.0, 1.0]), seed=0)


def test_patients_of_whom_nothing_is_known_do_not_count() -> None:
    logits, truth = np.array([-1.0, 1.0, 2.0, -2.0, 9.0]), np.array([0, 1, 0, 0, np.nan])
    assert calibration(logits, truth, 0) == calibration(logits[:4], truth[:4], 0)


def test_errors_are_those_of_the_cube_root(monkeypatch: pytest.MonkeyPatch) -> None:
    class Copies(torch.nn.Module):
        def forward(self, x_bcdhw: torch.Tensor, clinical_bn: torch.Tensor) -> DenseFollowup:
            still = torch.zeros(1, 3, 8, 16, 16)
            return DenseFollowup(
                x_bcdhw[:, :1], x_bcdhw[:, 1:].sum(1, keepdim=True), still, still, still[:, :1], torch.zeros(1, 2)
            )

    seen = seen_of(Pair().batch(0))
    first, later = (float(share.sum()) * 0.5 for share in (seen.baseline_bcdhw, seen.later_hematoma_bcdhw))
    monkeypatch.setattr("training.expansion.measure._platt", lambda logits, truth: (1.0, 0.0))  # a copy tells nothing
    found = measured(Copies(), map(Sometimes().batch, range(8)), SYSTEM.spacing_mm)  # type: ignore[arg-type]
    assert found.size_error_cm == pytest.approx([later ** (1 / 3) - first ** (1 / 3)] * 2)
    assert found.baseline_ml == pytest.approx((first, first))


def test_the_bundle_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(system=SYSTEM, makers=0, threads=1, warm_up_steps=2, steps=2)
    fit(recipe, Sometimes(), nothing_to_validate, tmp_path)
    monkeypatch.setattr("training.expansion.measure._WITHIN", (0, 100))
    monkeypatch.setattr("training.expansion.measure._platt", lambda logits, truth: (1.0, 0.0))  # untrained
    manifest = export_expansion(
        tmp_path / LAST,
        tmp_path / "expansion",
        Growing(),
        8,
        system=SYSTEM,
        version="0.1",
        card="A test.",
        trained_on="nothing",
        created=date(2026, 11, 27),
    )
    loaded = load_bundle(tmp_path / "expansion", "cpu", ExpansionManifest)
    assert loaded.manifest == manifest
    assert manifest.shape == SYSTEM.shape
    assert manifest.baseline_ml[0] < manifest.baseline_ml[1]


class Growing(Sometimes):
    """Pairs of different sizes."""

    def batch(self, number: int) -> Patients:
        batch = super().batch(number)
        batch.labels_bdhw[:, 2, 4 : 4 + number, 4] = 0
        assert batch.became_bn.shape == (1, len(BECAME))
        return batch
