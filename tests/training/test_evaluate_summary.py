import json
from dataclasses import replace
from io import StringIO
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.evaluate.bootstrap import Figure
from training.evaluate.files import write_csv, write_json
from training.evaluate.metrics import Lesion
from training.evaluate.plots import write_plots
from training.evaluate.report import MIXED, REAL, SIMULATED, provenance, reports
from training.evaluate.score import Overlap, Score
from training.evaluate.summary import (
    DICE_BY_TYPE,
    LESIONS_BY_TYPE,
    LESIONS_BY_VOLUME,
    MEASURES,
    PATIENTS_BY_VOLUME,
    Measure,
    by_style,
    dice_gain,
    summarize,
    worst_style,
)
from training.evaluate.tables import tables

_number = count(1)


def score(truth_ml: float, predicted_ml: float, overlap_ml: float, **fields: object) -> Score:
    """A case of its own patient, unless the fields say otherwise."""
    name = str(next(_number))
    plain = Score(
        case=name,
        patient=name,
        style="seeds",
        simulated=True,
        contender="net",
        only_type=None,
        all_types=Overlap(truth_ml=truth_ml, predicted_ml=predicted_ml, overlap_ml=overlap_ml),
        by_type={},
        hd95_mm=None,
        interval_ml=None,
        lesions=(),
        histogram=None,
        seconds=1.0,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def value(scores: list[Score], key: str, measures: tuple[Measure, ...] = MEASURES) -> float | None:
    return summarize(scores, [m for m in measures if m.key == key])[key].value


def test_dice_and_volume_error_are_of_patients_with_hemorrhage() -> None:
    scores = [score(10, 10, 5), score(10, 5, 5), score(10, 0, 0), score(0, 3, 0)]
    assert value(scores, "dice") == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert value(scores, "volume_error_percent") == pytest.approx(50)  # of 0, 50 and 100
    assert value(scores, "bias_ml") == pytest.approx(-5)
    assert value(scores, "lower_limit_ml") == pytest.approx(-5 - 1.96 * 5)


def test_dice_of_all_heads_as_one_counts_every_ml_alike_and_false_ones_of_normals() -> None:
    scores = [score(10, 10, 8), score(0.5, 0, 0), score(0, 1.5, 0)]
    assert value(scores, "dice_pooled") == pytest.approx(2 * 8 / (20 + 0.5 + 1.5))
    assert value(scores, "dice_1ml") == pytest.approx(0.8)
    assert value([score(0, 0, 0), score(0, 0.01, 0)], "dice_pooled") is None  # nobody bleeds


def test_false_positives_are_of_normals() -> None:
    scores = [score(10, 20, 10), score(0, 0.1, 0), score(0, 0.2, 0), score(0, 4, 0)]
    assert value(scores, "normals_clean") == pytest.approx(2 / 3)
    assert value(scores, "normals_median_ml") == pytest.approx(0.2)
    assert value(scores, "normals_p95_ml") == pytest.approx(0.2 + 0.9 * 3.8)


def test_undefined_surface_distances_are_counted_not_zero() -> None:
    scores = [score(1, 1, 1, hd95_mm=4.0), score(1, 0, 0), score(0, 0, 0)]
    assert value(scores, "hd95_mm") == 4.0
    assert value(scores, "hd95_undefined") == 0.5


def test_missed_patients_count_against_the_interval_coverage() -> None:
    scores = [score(5, 5, 5, interval_ml=(4.0, 6.0)), score(5, 0, 0, interval_ml=(0.0, 0.0)), score(0, 0, 0)]
    assert value(scores, "interval_coverage") == 0.5
    assert value(scores, "interval_coverage_marked") == 1.0


def test_sensitivity_is_of_patients_from_a_third_of_a_millilitre() -> None:
    scores = [score(0.2, 0, 0), score(0.3, 0.1, 0.03), score(2, 0.1, 0.1), score(2, 0.3, 0.3)]
    assert value(scores, "sensitivity") == pytest.approx(2 / 3)
    bins = summarize(scores, PATIENTS_BY_VOLUME)
    assert bins["0.3-1 mL"].value == 1.0
    assert bins["1-3 mL"].value == 0.5
    assert bins["30+ mL"] == Figure(value=None, low=None, high=None, patients=0)


def test_lesions_are_found_by_type_and_by_volume() -> None:
    seen, missed = Lesion(type="SDH", truth_ml=2.0, marked=0.5), Lesion(type="IPH", truth_ml=40.0, marked=0.0)
    scores = [score(42, 1, 1, lesions=(seen, seen, missed))]
    assert value(scores, "SDH", LESIONS_BY_TYPE) == 1.0
    assert value(scores, "IPH", LESIONS_BY_TYPE) == 0.0
    assert value(scores, "1-3 mL", LESIONS_BY_VOLUME) == 1.0
    assert value(scores, "30+ mL", LESIONS_BY_VOLUME) == 0.0


def test_dice_of_a_type_is_of_patients_who_have_it() -> None:
    small = {"IPH": Overlap(truth_ml=2, predicted_ml=2, overlap_ml=1)}
    large = {
        "IPH": Overlap(truth_ml=8, predicted_ml=8, overlap_ml=8),
        "IVH": Overlap(truth_ml=0, predicted_ml=1, overlap_ml=0),
    }
    found = summarize([score(2, 2, 1, by_type=small), score(8, 9, 8, by_type=large)], DICE_BY_TYPE)
    assert found["IPH"].value == pytest.approx(0.75)
    assert found["IPH from 5 mL"].value == 1.0
    assert found["IVH"].value is None


def test_the_worst_style_depends_on_the_measure() -> None:
    scores = [score(10, 10, 10, style="thin"), score(0, 5, 0, style="thin"), score(10, 10, 5), score(0, 1, 0)]
    summaries = {style: summarize(part, MEASURES) for style, part in by_style(scores).items()}
    worst = {m.key: found[0] for m in MEASURES if (found := worst_style(summaries, m))}
    assert list(summaries) == ["all", "seeds", "thin"]
    assert worst["dice"] == "seeds"
    assert worst["normals_median_ml"] == "thin"


def test_a_gain_is_measured_on_the_same_cases() -> None:
    net = [score(10, 10, 9, case="a"), score(10, 10, 8, case="b"), score(0, 1, 0, case="c")]
    other = [score(10, 10, 4, case="b"), score(10, 10, 7, case="a"), score(0, 0, 0, case="c")]
    assert dice_gain(net, other).value == pytest.approx((0.2 + 0.4) / 2)


def test_what_is_simulated_says_so() -> None:
    assert [provenance(kinds) for kinds in ([True], [False], [True, False])] == [SIMULATED, REAL, MIXED]


def test_the_table_shows_each_style_and_the_worst() -> None:
    scores = [score(10, 10, 9), score(10, 10, 8), score(10, 10, 5, style="thin"), score(0, 0, 0)]
    console = Console(width=240, file=StringIO(), record=True)
    console.print(tables(reports(scores)))
    text = console.export_text()
    row = {line.split("│")[1].strip(): line for line in text.splitlines() if line.count("│") > 8}
    assert SIMULATED in text
    assert "3 / 1" in row["net"]
    assert "0.85 [0.80-0.90]" in row["seeds"]
    assert "0.50 (thin)" in row["worst style"]


def test_the_files_hold_every_case_and_figure(tmp_path: Path) -> None:
    histogram = np.zeros((3, 142))
    histogram[:, 100] = 1.0
    net = [score(10, 10, 9, histogram=histogram), score(0, 0, 0)]
    found = reports([*net, *(replace(one, contender="other", histogram=None) for one in net)])
    write_json(found, {"x/1": "missing slices"}, tmp_path / "report.json")
    write_csv(found, tmp_path / "cases.csv")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["refused"] == {"x/1": "missing slices"}
    assert content["contenders"]["net"]["styles"]["all"]["dice"]["value"] == pytest.approx(0.9)
    assert content["contenders"]["net"]["calibration"]["reliability"][0]["head_ml"] == pytest.approx(1)
    assert (tmp_path / "cases.csv").read_text().count("\n") == 5
    assert content["contenders"]["other"]["calibration"] is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("volumes_ml", [[(0, 0), (0, 3)], [(4, 0)], [(4, 4)]])
def test_plots_of_normals_alone_of_nothing_found_and_of_one_patient_can_be_drawn(
    volumes_ml: list[tuple[float, float]], tmp_path: Path
) -> None:
    write_plots(reports([score(truth, said, min(truth, said)) for truth, said in volumes_ml]), tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 4
