"""System C: sizes are cube roots of what the labels hold, and both classes of survival weigh alike."""

import pytest
import torch

from models.volume_survival import Answers
from tests.training.patients_factory import patients
from training.patients.batch import KNOWN, Patients
from training.volume_survival.system import VolumeSurvivalSystem, volume_ml
from training.volume_survival.validation import size_and_death_score

SYSTEM = VolumeSurvivalSystem(spacing_mm=(5.0, 10.0, 10.0), death_rate=0.25)
FEATURES = torch.zeros(4, 1)
ML = 27.0


def bleeding(ml: float = ML, **changes: object) -> Patients:
    batch = patients(**changes)  # type: ignore[arg-type]
    batch.known_bn[:, KNOWN.index("baseline_ml")] = ml
    return batch


def test_the_error_of_a_volume_is_that_of_its_size_in_cm() -> None:
    answer = Answers(torch.full((4,), ML ** (1 / 3) + 0.5), torch.zeros(4, 2), FEATURES)
    assert volume_ml(bleeding()).tolist() == [ML] * 4
    assert SYSTEM.losses(answer, bleeding(), late=False)["volume"].item() == pytest.approx(0.25)


def test_one_who_dies_among_three_who_do_not_weighs_as_much_as_they() -> None:
    says_all_live = torch.tensor([[9.0, -9.0]] * 4)
    says_all_die = -says_all_live
    batch = patients(died=(0, 0, 0, 1))
    live, die = (
        SYSTEM.losses(Answers(torch.zeros(4), said, FEATURES), batch, late=False)["survival"].item()
        for said in (says_all_live, says_all_die)
    )
    assert live == pytest.approx(die, rel=1e-3)


def test_a_task_left_out_is_not_there_and_an_unknown_survival_costs_nothing() -> None:
    answer = Answers(torch.zeros(4), torch.ones(4, 2), FEATURES)
    assert list(VolumeSurvivalSystem(volume=0).losses(answer, patients(), late=False)) == ["survival"]
    unknown = patients(died=(torch.nan,) * 4)
    assert SYSTEM.losses(answer, unknown, late=False)["survival"].item() == 0
    assert SYSTEM.losses(answer, bleeding(torch.nan), late=False)["volume"].item() == 0


def test_the_score_is_half_size_and_half_death() -> None:
    class Says(torch.nn.Module):
        def forward(self, hu_bcdhw: torch.Tensor) -> Answers:
            death = torch.tensor([0.1, 0.2, 0.3, 0.4])
            return Answers(torch.full((4,), 9.0), torch.stack([1 - death, death], dim=1), FEATURES)

    score = size_and_death_score(Says(), [bleeding(died=(0, 0, 1, 1))])  # type: ignore[arg-type]
    assert score == pytest.approx(0.5)  # all sizes wrong, all deaths told
