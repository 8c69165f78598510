"""System B: its tasks weigh as the paper says, and what is not known costs nothing."""

from math import log

import pytest
import torch

from models.prognosis import Answers
from tests.training.patients_factory import patients
from training.prognosis.system import PrognosisSystem, taught_of, taught_said, truth_of
from training.prognosis.validation import mean_auc_of

FEATURES = torch.zeros(4, 1)
UNDECIDED = Answers(torch.zeros(4), torch.zeros(4, 2), torch.zeros(4), torch.zeros(4, 3), FEATURES)


def test_the_truth_is_read_off_the_patients() -> None:
    truth = truth_of(patients(age=(79.0, 80.0, torch.nan, 95.0), gcs=(15, 12, 8, torch.nan), poor=(0, 1, 1, torch.nan)))
    assert truth.elderly_b.nan_to_num(-1).tolist() == [0, 1, -1, 1]
    assert truth.gcs_bu.nan_to_num(-1).tolist() == [[0, 0], [1, 0], [1, 1], [-1, -1]]
    assert truth.poor_b.nan_to_num(-1).tolist() == [0, 1, 1, -1]


def test_the_published_weights() -> None:
    batch = patients(age=(70, 80, 90, 60), gcs=(15, 12, 8, 3), poor=(0, 1, 1, 0))
    losses = PrognosisSystem(taught=0).losses(UNDECIDED, batch, late=False)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {"poor": 0.4 * log(2), "gcs": 0.3 * log(2), "elderly": 0.3 * log(2)}
    )


def test_what_is_not_known_costs_nothing_and_a_task_left_out_is_not_there() -> None:
    nobody = (torch.nan,) * 4
    system = PrognosisSystem(elderly=0, taught=0)
    losses = system.losses(UNDECIDED, patients(age=nobody, gcs=nobody, poor=(0, 1, torch.nan, torch.nan)), late=False)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx({"poor": 0.4 * log(2), "gcs": 0.0})


def test_binary_consciousness_is_the_unit_of_8_or_less() -> None:
    batch = patients(gcs=(15, 12, 8, 3))
    sure = UNDECIDED._replace(gcs_bu=torch.tensor([[9.0, -9], [-9, -9], [-9, 9], [9, 9]]))
    binary, ordinal = (
        PrognosisSystem(ordinal=ordinal).losses(sure, batch, late=False)["gcs"].item() for ordinal in (False, True)
    )
    assert binary == pytest.approx(0, abs=1e-3)
    assert ordinal > 0.3


def test_the_score_is_the_mean_auc() -> None:
    class Says(torch.nn.Module):
        def forward(self, hu_bcdhw: torch.Tensor) -> Answers:
            rank = torch.tensor([0.1, 0.2, 0.3, 0.4])
            return Answers(rank, torch.stack([rank, 1 - rank], dim=1), rank, torch.zeros(4, 3), FEATURES)

    batch = patients(age=(60, 70, 85, 90), gcs=(15, 15, 6, 3), poor=(0, 1, 0, 1))
    assert mean_auc_of(Says(), [batch]) == pytest.approx((0.75 + 0 + 1) / 3)  # type: ignore[arg-type]


def test_the_trunk_is_taught_what_a_ct_shows_and_the_age_where_it_is_known() -> None:
    batch, spacing_mm = patients(age=(60, 70, torch.nan, 90)), (5.0, 10.0, 10.0)  # half a mL a voxel
    truth = taught_of(batch, spacing_mm)
    assert truth[0].tolist() == pytest.approx([27 ** (1 / 3), 9 ** (1 / 3), 6.0])
    size = (20 * log(2)) ** (1 / 3)  # of an answer of nothing
    assert taught_said(torch.zeros(1, 3))[0].tolist() == pytest.approx([size, size, 7.0])
    answer = UNDECIDED._replace(taught_bn=torch.zeros(4, 3))
    losses = PrognosisSystem(spacing_mm=spacing_mm, taught=0.5).losses(answer, batch, late=False)
    errors = [(size - 3) ** 2] * 4 + [(size - 9 ** (1 / 3)) ** 2] * 4 + [1.0, 0.0, 4.0]
    assert losses["taught"].item() == pytest.approx(0.5 * sum(errors) / len(errors))
