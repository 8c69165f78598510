"""System D is measured beside ways that need no network, and these come out as they must."""

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.training.test_expansion import Pair
from training.__main__ import app
from training.expansion.evaluate import (
    AS_IT_WAS,
    MAJORITY,
    ORACLE,
    Answer,
    Case,
    Picture,
    as_it_was,
    cases_of,
    dilated_to,
    figures,
)
from training.patients.batch import KNOWN, Patients
from training.patients.evaluation import FROM_NUMBERS

SPACING_MM = (5.0, 10.0, 10.0)  # half a mL a voxel


class Cohort(Pair):
    """Every other patient expands, those with more blood by the numbers."""

    def batch(self, number: int) -> Patients:
        batch = super().batch(number)
        batch.known_bn[0] = 0
        batch.known_bn[0, KNOWN.index("baseline_ml")] = float(number % 2)
        batch.became_bn[0, :2] = float(number % 2)
        if not number % 2:
            batch.later_labels_bdhw.copy_(batch.labels_bdhw)
        return batch


def test_a_copy_an_oracle_and_numbers_alone() -> None:
    contenders = {AS_IT_WAS: as_it_was, ORACLE: dilated_to(SPACING_MM)}
    found = cases_of(contenders, map(Cohort().batch, range(20)), SPACING_MM)
    copy, oracle, numbers = (figures(found[name]) for name in (AS_IT_WAS, ORACLE, FROM_NUMBERS))

    grown_ml = (4 * 6 * 4 + 16) * 0.5
    assert (copy["growth Dice"].value, copy["growth Dice"].patients) == (0, 10)
    assert copy["volume error mL"].value == pytest.approx(-grown_ml / 2)
    assert (copy["no true growth"].value, copy["false growth mL"].value) == (10, 0)
    assert copy["AUC 3 mL"].value is None
    assert oracle["absolute error mL"].value == 0
    assert 0.2 < (oracle["growth Dice"].value or 0) < 1
    assert numbers["AUC 6 mL or 33 %"].value == 1
    assert (numbers["growth Dice"].patients, numbers["no true growth"].value) == (0, None)
    frequent = figures(found[MAJORITY])
    assert (frequent["AUC 6 mL or 33 %"].value, frequent["Brier"].value) == (0.5, 0.5)
    assert frequent["growth Dice"].patients == 0


def test_the_truth_is_the_best() -> None:
    found = cases_of(
        {AS_IT_WAS: lambda seen, first, later: Answer(later=later, conventional=0.5)},
        map(Cohort().batch, range(20)),
        SPACING_MM,
    )
    row = figures(found[AS_IT_WAS])
    assert (row["growth Dice"].value, row["absolute error mL"].value) == (1, 0)
    assert (row["AUC 6 mL or 33 %"].value, row["Brier"].value) == (0.5, 0.25)


def test_the_dice_of_growth_is_that_of_all_in_whom_anything_grew_and_false_growth_that_of_the_others() -> None:
    grew = Picture(growth_dice=0.5, said_ml=3.0, true_ml=2.0, false_growth_ml=2.0)
    still = Picture(growth_dice=None, said_ml=3.0, true_ml=2.0, false_growth_ml=1.0)
    cases = [
        Case(expands=expands, expands_3_ml=expands, conventional=None, small=None, picture=picture)
        for expands, picture in ((True, grew), (False, grew), (False, still))
    ]
    row = figures(cases)
    assert (row["growth Dice"].patients, row["no true growth"].value) == (2, 1)
    assert (row["false growth mL"].patients, row["false growth mL"].value) == (1, 1.0)


def test_the_command_prints_a_table_of_the_shipped_bundle_and_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "training.patients.simulated.SimulatedPatients.batch", lambda self, number: Cohort().batch(number)
    )
    torch.manual_seed(0)
    file = tmp_path / "evaluation.md"
    said = ["evaluate", "D", "--patients", "20", "--out", str(file)]
    outcome = CliRunner().invoke(app, said, env={"COLUMNS": "200"})
    assert outcome.exit_code == 0, outcome.output
    assert "20 simulated patients from seed 950000000" in outcome.stdout
    assert "published, real data: growth Dice 0.506" in outcome.stdout
    assert re.search(r"^\| expansion \d", file.read_text(), re.MULTILINE)
    assert re.search(r"^expansion: AUC 0\.\d\d by all numbers", outcome.stdout, re.MULTILINE)
    assert re.search(r"^\| as it was \| 0\.00 \[[^|]+\| 10 \| 0\.00", file.read_text(), re.MULTILINE)


def test_a_bundle_that_is_not_there_is_named() -> None:
    outcome = CliRunner().invoke(app, ["evaluate", "expansion", "--bundle", "nowhere"])
    assert outcome.exit_code == 2
    assert "there is no bundle nowhere" in outcome.output
