"""Structured reports as lines of text."""

from functools import cache

import pytest

from ichnode.results.provenance import Role
from ichnode.results.report_text import ReportLine, report_lines
from tests.results_factory import phantom_case, save


@cache
def result(role):
    case = phantom_case()
    return next(made for made in case.results() if made.role == role)


@pytest.fixture
def lines(tmp_path):
    def read(role):
        return report_lines(save(result(role), tmp_path / "report.dcm"))

    return read


def values(lines, name):
    return [line.value for line in lines if line.name == name]


def test_a_measurement_has_its_unit_its_code_and_what_is_said_of_it(lines):
    said = lines(Role.MEASUREMENT_REPORT)
    volume, abc2 = (line for line in said if line.name == "Volume")
    assert volume == ReportLine(depth=2, name="Volume", value="30.157 mL", code="118565006, SCT")
    assert abc2.value == "31.664 mL; Measurement Method: ABC/2 (Kothari 1996)"
    assert values(said, "Area") == ["1175.269 mm²; Maximum"]
    assert values(said, "Finding Site") == ["Brain; Laterality: Left"]


def test_the_bounds_of_an_interval_and_an_abstention_say_what_they_are(lines):
    said = lines(Role.PREDICTION_REPORT)
    assert values(said, "Probability of hematoma expansion within 24 h") == [
        "23.0 %; Predicted",
        "12.0 %; Predicted, lower bound of the interval",
        "40.0 %; Predicted, upper bound of the interval",
    ]
    assert values(said, "Probability of hematoma expansion by 3 mL or more within 24 h") == [
        "31.0 %; Predicted",
        "19.0 %; Predicted, lower bound of the interval",
        "47.0 %; Predicted, upper bound of the interval",
    ]
    assert values(said, "Probability of a poor outcome at 90 days") == [
        "no value: Measurement not attempted; Predicted; no cohort to calibrate on"
    ]


@pytest.mark.parametrize("role", [Role.MEASUREMENT_REPORT, Role.PREDICTION_REPORT, Role.OUTLINE_REPORT])
def test_a_model_is_named_once_in_a_group_and_identifiers_are_left_out(lines, role):
    said = lines(role)
    groups = sum(line.name == "Measurement Group" for line in said)
    told = sum("weights_sha256=" in line.value for line in said)
    assert groups == told
    assert not [line for line in said if "2.25." in line.value or line.name.endswith("UID")]
    assert values(said, "Intended use") == ["Research use only - not for clinical use"] * groups
