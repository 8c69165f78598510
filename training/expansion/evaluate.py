"""System D measured beside trivial ways, on patients that no training saw.

Growth is what is blood on the next CT and was none on the first, parenchymal and ventricular, be it an expansion or
not. Its Dice is that of all in whom anything grew; in the others, who are counted, what is predicted to grow is false.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ichnode.inference.manifest import ExpansionManifest
from models.expansion import DenseFollowup
from training.evaluate.bootstrap import Figure
from training.expansion.system import Seen, seen_of
from training.fit.system import System
from training.patients.batch import BECAME, Patients
from training.patients.evaluation import (
    FROM_NUMBERS,
    MAJORITY,
    Contender,
    Evaluate,
    Rows,
    auc,
    count,
    from_numbers,
    mean,
)

CONVENTIONAL, SMALL = BECAME.index("conventional expansion"), BECAME.index("3 mL expansion")
_PUBLISHED = (
    "published, real data: growth Dice 0.506, mean volume error -3.44 mL (Abramova 2024, 30 patients, leave one out)"
)
AS_IT_WAS, ORACLE = "as it was", "oracle dilation"

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a contender says of one patient."""

    later: Mask  # (z, y, x)
    conventional: float | None = None  # probability
    small: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """How well a predicted mask is the true one."""

    growth_dice: float | None  # None: nothing grew
    said_ml: float
    true_ml: float
    false_growth_ml: float

    @property
    def volume_error_ml(self) -> float:
        """Predicted - true."""
        return self.said_ml - self.true_ml


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One patient and one contender."""

    expands: bool
    expands_3_ml: bool
    conventional: float | None  # probability, as said
    small: float | None
    picture: Picture | None  # None: it says none


Way = Callable[[Seen, Mask, Mask], Answer]  # what is seen, the first mask and the later one (for oracles)


def of_network(contender: Contender) -> Way:
    """On the grid it was trained on."""

    def answer(seen: Seen, first: Mask, later: Mask) -> Answer:
        with torch.inference_mode():
            said = contender.network(seen.x_bcdhw, seen.clinical_bn)
        later = (said.hematoma_bcdhw[0, 0] >= 0.5).numpy()
        if not isinstance(said, DenseFollowup):
            return Answer(later=later)
        conventional, small = said.expands_bk[0].tolist()
        return Answer(
            later=later,
            conventional=contender.probability("expands", conventional),
            small=contender.probability("expands_3_ml", small),
        )

    return answer


def as_it_was(seen: Seen, first: Mask, later: Mask) -> Answer:
    """The next day is today."""
    return Answer(later=first)


def dilated_to(spacing_mm: tuple[float, float, float]) -> Way:
    """The first hematoma grown alike to all sides until it has the volume of the later one: nobody knows that."""

    def answer(seen: Seen, first: Mask, later: Mask) -> Answer:
        outside_mm = ndimage.distance_transform_edt(~first, spacing_mm) - ndimage.distance_transform_edt(
            first, spacing_mm
        )
        chosen = np.zeros(first.size, np.bool_)
        chosen[np.argsort(outside_mm, axis=None, kind="stable")[: int(later.sum())]] = True
        return Answer(later=chosen.reshape(first.shape))

    return answer


def rows(contenders: Mapping[str, Contender], batches: Iterable[Patients], system: System) -> Rows:
    """Of networks, trivial pictures, and `FROM_NUMBERS` and `MAJORITY`, which say no picture."""
    ways = {name: of_network(contender) for name, contender in contenders.items()}
    ways |= {AS_IT_WAS: as_it_was, ORACLE: dilated_to(system.spacing_mm)}
    return {name: figures(cases) for name, cases in cases_of(ways, batches, system.spacing_mm).items()}


def cases_of(
    ways: Mapping[str, Way], batches: Iterable[Patients], spacing_mm: tuple[float, float, float]
) -> dict[str, list[Case]]:
    """Each of the ways on each patient (batches of one), `MAJORITY`, and `FROM_NUMBERS` where they are enough for it.

    Whoever has no parenchymal hemorrhage that could expand is left out.
    """
    found: dict[str, list[Case]] = {name: [] for name in ways}
    patients = [batch for batch in batches if batch.became_bn[0, [CONVENTIONAL, SMALL]].isfinite().all()]
    truths = list[list[float]]()
    for batch in patients:
        seen = seen_of(batch)
        first, later = (share[0, 0].numpy() > 0.5 for share in (seen.baseline_bcdhw, seen.later_hematoma_bcdhw))
        truths.append(batch.became_bn[0, [CONVENTIONAL, SMALL]].tolist())
        for name, way in ways.items():
            answer = way(seen, first, later)
            picture = _picture(answer.later, first, later, prod(spacing_mm) / 1000)
            found[name].append(_case(truths[-1], answer.conventional, answer.small, picture=picture))
    by_definition = list(zip(*truths, strict=True))
    conventional, small = (from_numbers(patients, truth) for truth in by_definition)
    if conventional and small:
        found[FROM_NUMBERS] = _without_picture(truths, conventional, small)
    frequent = ([float(np.mean(truth) > 0.5)] * len(truth) for truth in by_definition)
    return found | {MAJORITY: _without_picture(truths, *frequent)}


def _without_picture(truths: Sequence[Sequence[float]], *said: Sequence[float]) -> list[Case]:
    """By the two definitions, a patient after another."""
    return [_case(truth, *each, picture=None) for truth, each in zip(truths, zip(*said, strict=True), strict=True)]


def _case(truth: Sequence[float], conventional: float | None, small: float | None, *, picture: Picture | None) -> Case:
    return Case(
        expands=truth[0] > 0.5, expands_3_ml=truth[1] > 0.5, conventional=conventional, small=small, picture=picture
    )


def _picture(said: Mask, first: Mask, later: Mask, voxel_ml: float) -> Picture:
    grown, predicted = later & ~first, said & ~first
    total = int(grown.sum() + predicted.sum())
    return Picture(
        growth_dice=2 * int((grown & predicted).sum()) / total if grown.any() else None,
        said_ml=int(said.sum()) * voxel_ml,
        true_ml=int(later.sum()) * voxel_ml,
        false_growth_ml=int((predicted & ~grown).sum()) * voxel_ml,
    )


def figures(cases: Sequence[Case]) -> dict[str, Figure]:
    """Of one contender, by name."""
    pictures = [case.picture for case in cases if case.picture]
    said = [(case.conventional, case.expands) for case in cases if case.conventional is not None]
    small = [(case.small, case.expands_3_ml) for case in cases if case.small is not None]
    return {
        "growth Dice": mean([picture.growth_dice for picture in pictures if picture.growth_dice is not None]),
        "no true growth": count([picture.growth_dice is None for picture in pictures]),
        "false growth mL": mean([picture.false_growth_ml for picture in pictures if picture.growth_dice is None]),
        "volume error mL": mean(
            [picture.volume_error_ml for picture in pictures],
            tuple((picture.said_ml, picture.true_ml) for picture in pictures),
        ),
        "absolute error mL": mean([abs(picture.volume_error_ml) for picture in pictures]),
        "AUC 6 mL or 33 %": auc([probability for probability, _ in said], [expands for _, expands in said]),
        "AUC 3 mL": auc([probability for probability, _ in small], [expands for _, expands in small]),
        "Brier": mean([(probability - expands) ** 2 for probability, expands in said]),
    }


EVALUATE = Evaluate(
    kind=ExpansionManifest,
    rows=rows,
    published=_PUBLISHED,
    labels=("expansion",),
    more_is_better={
        "growth Dice": True,
        "false growth mL": False,
        "absolute error mL": False,
        "AUC 6 mL or 33 %": True,
        "AUC 3 mL": True,
    },
)
