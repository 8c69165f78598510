from dataclasses import dataclass

import numpy as np
import pytest

from ichnode.imaging.volume import Volume
from tests.volume_factory import grid_of
from training.evaluate.cases import EvaluationCase
from training.evaluate.contenders import Answer, EmptyMask
from training.evaluate.score import Score, scores

GRID = grid_of((4, 20, 20), slice_mm=5.0, pixel_spacing_mm=(2.0, 2.0))  # 0.02 mL a voxel


@dataclass
class Says:
    """A contender that always gives the same answer."""

    result: Answer
    name: str = "says"

    def answer(self, volume: Volume) -> Answer:
        return self.result


def labels_of(**rows: int) -> np.ndarray:
    """One slice: each row of 20 voxels (0.4 mL) from `first` on has the value; keys are r0, r1 ..."""
    labels = np.zeros(GRID.shape, np.uint8)
    for row, value in rows.items():
        labels[1, int(row[1:])] = value
    return labels


def scored(labels: np.ndarray, answer: Answer) -> Score:
    volume = Volume(hu=np.full(GRID.shape, 35, np.float32), grid=GRID)
    case = EvaluationCase(name="c", patient="p", style="s", simulated=True, volume=volume, labels=labels)
    return next(scores([case], [Says(answer)]))


def marked(labels: np.ndarray, **more: object) -> Answer:
    return Answer(hematoma=labels > 0, **more)  # type: ignore[arg-type]


def test_all_types_together_are_measured_in_millilitres() -> None:
    score = scored(labels_of(r0=1, r1=2, r2=1), marked(labels_of(r2=1, r3=1)))
    assert score.all_types.truth_ml == pytest.approx(1.2)
    assert score.all_types.predicted_ml == pytest.approx(0.8)
    assert score.all_types.dice == pytest.approx(0.4)
    assert score.all_types.error_ml == pytest.approx(-0.4)


def test_each_type_is_measured_by_itself() -> None:
    said = labels_of(r0=1, r1=1, r2=2)
    score = scored(labels_of(r0=1, r1=2, r2=2), marked(said, types=said))
    assert score.all_types.dice == pytest.approx(1.0)
    assert score.by_type["IPH"].dice == pytest.approx(2 / 3)
    assert score.by_type["IVH"].dice == pytest.approx(2 / 3)
    assert score.by_type["SDH"].dice is None


def test_types_are_not_measured_where_nobody_tells_them() -> None:
    said = labels_of(r0=1)
    assert scored(labels_of(r0=6), marked(said, types=said)).by_type == {}
    assert scored(labels_of(r0=1), marked(said)).by_type == {}


def test_only_a_patient_with_one_type_has_an_only_type() -> None:
    assert scored(labels_of(r0=1, r1=1), marked(labels_of())).only_type == "IPH"
    assert scored(labels_of(r0=1, r1=2), marked(labels_of())).only_type is None
    assert scored(labels_of(), marked(labels_of())).only_type is None


def test_unknown_voxels_are_neither_right_nor_wrong() -> None:
    score = scored(labels_of(r0=1, r1=255), marked(labels_of(r0=1, r1=1), interval_ml=(0.1, 1.0)))
    assert score.all_types.dice == pytest.approx(1.0)
    assert score.covered is None


def test_an_interval_covers_the_true_volume_or_not() -> None:
    truth = labels_of(r0=1)
    assert scored(truth, marked(truth, interval_ml=(0.3, 0.5))).covered is True
    assert scored(truth, marked(truth, interval_ml=(0.5, 0.9))).covered is False
    assert scored(truth, marked(truth)).covered is None


def test_marking_nothing_finds_nobody_and_harms_nobody() -> None:
    volume = Volume(hu=np.zeros(GRID.shape, np.float32), grid=GRID)
    bleeding = scored(labels_of(r0=1), EmptyMask().answer(volume))
    normal = scored(labels_of(), EmptyMask().answer(volume))
    assert (bleeding.all_types.dice, bleeding.all_types.found, bleeding.hd95_mm) == (0.0, False, None)
    assert (normal.bleeds, normal.all_types.dice, normal.all_types.predicted_ml) == (False, None, 0.0)
