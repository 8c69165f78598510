"""What the bundle of system D says of its errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.expansion import DenseFollowup
from tests.training.test_expansion import Pair
from training.expansion.export import errors, row
from training.expansion.system import ExpansionSystem, seen_of
from training.patients.plans import PLANS
from training.patients.simulated import validation_of
from training.simulate.cohort import VALIDATION_SEEDS
from training.simulate.planes import around_origin
from training.simulate.styles import TRAINING

SYSTEM = ExpansionSystem(shape=(8, 16, 16), spacing_mm=(5.0, 10.0, 10.0))  # half a mL a voxel
SYSTEM_GRID = around_origin(SYSTEM.shape, SYSTEM.spacing_mm)


def test_what_a_network_is_told_of_a_patient_may_be_the_header_alone() -> None:
    plan = PLANS["expansion"]
    source = replace(plan.patients(VALIDATION_SEEDS), grid=SYSTEM_GRID)
    assert (source.unknown, source.header_alone) == (0.1, 0.5)
    shown = validation_of(source, TRAINING)
    assert (shown.unknown, shown.header_alone) == (0, 1)


def test_errors_are_those_of_the_cube_root() -> None:
    batch = Pair().batch(0)
    seen, still = seen_of(batch), torch.zeros(1, 3, 8, 16, 16)
    copied = DenseFollowup(
        ct_bcdhw=seen.x_bcdhw[:, :1],
        hematoma_bcdhw=seen.baseline_bcdhw,
        field_bcdhw=still,
        displacement_bcdhw=still,
        new_bcdhw=still[:, :1],
        expands_bk=torch.tensor([[0.3, 0.7]]),
        features_bf=torch.zeros(1, 1),
    )
    first, later = (float(share.sum()) * 0.5 for share in (seen.baseline_bcdhw, seen.later_hematoma_bcdhw))
    *logits_and_truth, error = row(SYSTEM, copied, batch)[0].tolist()
    assert logits_and_truth == pytest.approx([0.3, 0.7, *batch.became_bn[0, :2].tolist()], nan_ok=True)
    assert error == pytest.approx(later ** (1 / 3) - first ** (1 / 3))


def test_the_risk_is_moderate_from_half_and_high_from_one_and_a_half_of_the_share_who_expand() -> None:
    truth = np.arange(20) % 4 == 0
    logits = np.where(truth, 1.0, -1.0) + np.linspace(-2, 2, 20)
    found = errors(np.stack([logits, logits, truth, truth, np.linspace(-1, 1, 20)], axis=1))
    assert found["risk_percent"] == pytest.approx((12.5, 37.5))
    assert found["size_error_cm"] == pytest.approx((-0.9, 0.9))
    assert found["expands"].scale > 0
