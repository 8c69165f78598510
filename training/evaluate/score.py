"""Score: everything that is measured on one case for one contender; what is summed up comes from here alone."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from ichnode.imaging.volume import AcquisitionGrid, Mask
from training.data.manifest import ANY, TYPES, UNKNOWN
from training.evaluate.calibration import Histogram, histogram
from training.evaluate.cases import EvaluationCase
from training.evaluate.contenders import Answer, Contender
from training.evaluate.metrics import FOUND_SHARE, TYPE_OF_LABEL, Lesion, dice, hd95_mm, lesions


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Two masks in mL."""

    truth_ml: float
    predicted_ml: float
    overlap_ml: float

    @property
    def dice(self) -> float | None:
        """None where both are empty."""
        return dice(self.truth_ml, self.predicted_ml, self.overlap_ml)

    @property
    def error_ml(self) -> float:
        """Predicted minus true."""
        return self.predicted_ml - self.truth_ml

    @property
    def found(self) -> bool:
        """Whether enough of the truth is marked."""
        return self.truth_ml > 0 and self.overlap_ml >= FOUND_SHARE * self.truth_ml


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """One contender on one case."""

    case: str
    patient: str
    style: str
    simulated: bool
    contender: str
    only_type: str | None  # the type of the truth where it has one alone
    all_types: Overlap
    by_type: dict[str, Overlap]  # empty where the truth or the contender tells no types
    hd95_mm: float | None  # None where truth or prediction is empty
    interval_ml: tuple[float, float] | None
    lesions: tuple[Lesion, ...]
    histogram: Histogram | None  # None where the contender gives no probability
    seconds: float

    @property
    def bleeds(self) -> bool:
        """Whether the truth has any hemorrhage."""
        return self.all_types.truth_ml > 0

    @property
    def covered(self) -> bool | None:
        """Whether the true volume lies in the interval; None without one."""
        if self.interval_ml is None:
            return None
        return self.interval_ml[0] <= self.all_types.truth_ml <= self.interval_ml[1]


def scores(cases: Iterable[EvaluationCase], contenders: Sequence[Contender]) -> Iterator[Score]:
    """Every contender on every case; a case is dropped before the next is read."""
    for case in cases:
        for contender in contenders:
            start = time.perf_counter()
            answer = contender.answer(case.volume)
            yield score(case, contender.name, answer, time.perf_counter() - start)


def score(case: EvaluationCase, contender: str, answer: Answer, seconds: float) -> Score:
    """What the answer is worth. Unknown voxels count as neither hemorrhage nor marked."""
    grid, labels = case.volume.grid, case.labels
    known = labels != UNKNOWN
    truth, predicted = known & (labels > 0), known & answer.hematoma
    return Score(
        case=case.name,
        patient=case.patient,
        style=case.style,
        simulated=case.simulated,
        contender=contender,
        only_type=_only_type(labels),
        all_types=_overlap(truth, predicted, grid),
        by_type=_by_type(labels, predicted, answer.types, grid),
        hd95_mm=hd95_mm(truth, predicted, grid),
        interval_ml=answer.interval_ml if known.all() else None,
        lesions=lesions(labels, predicted, grid),
        histogram=None if answer.probability is None else histogram(answer.probability, labels, case.volume),
        seconds=seconds,
    )


def _overlap(truth: Mask, predicted: Mask, grid: AcquisitionGrid) -> Overlap:
    return Overlap(
        truth_ml=grid.volume_ml(truth),
        predicted_ml=grid.volume_ml(predicted),
        overlap_ml=grid.volume_ml(truth & predicted),
    )


def _only_type(labels: NDArray[np.uint8]) -> str | None:
    present = [TYPE_OF_LABEL[n] for n, box in enumerate(find_objects(labels, max(TYPE_OF_LABEL)), start=1) if box]
    return present[0] if len(present) == 1 else None


def _by_type(
    labels: NDArray[np.uint8], predicted: Mask, types: NDArray[np.uint8] | None, grid: AcquisitionGrid
) -> dict[str, Overlap]:
    if types is None or (labels == ANY).any():
        return {}
    return {
        name: _overlap(labels == value, predicted & (types == value), grid) for value, name in enumerate(TYPES, start=1)
    }
