"""System D measured beside trivial ways, on simulated patients that no training saw.

Growth is what is blood on the next CT and was none on the first, parenchymal and ventricular. Its Dice is that of
patients who expand; in the others what is predicted to grow is false.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from sklearn.model_selection import cross_val_predict  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from ichnode.inference.bundle import Bundle
from ichnode.inference.manifest import ExpansionManifest
from training.evaluate.bootstrap import Figure, Values, figure
from training.expansion.system import Seen, seen_of
from training.patients.batch import BECAME, KNOWN, Patients

CONVENTIONAL, SMALL = BECAME.index("conventional expansion"), BECAME.index("3 mL expansion")
PUBLISHED = "published, real data: growth Dice 0.506, mean volume error -3.44 mL (30 patients, leave one out)"
AS_IT_WAS, ORACLE = "as it was", "oracle dilation"
FROM_NUMBERS = "volume, age and GCS"  # logistic regression, out of five folds
_ASKED = [KNOWN.index(name) for name in ("baseline_ml", "age", "gcs")]
_FOLDS = 5

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a contender says of one patient."""

    later: Mask  # (z, y, x)
    conventional: float | None = None  # percent
    small: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """How well a predicted mask is the true one."""

    growth_dice: float
    volume_error_ml: float  # predicted - true
    false_growth_ml: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One patient and one contender."""

    expands: bool
    expands_3_ml: bool
    conventional: float | None  # percent, as said
    small: float | None
    picture: Picture | None  # None: it says none


Contender = Callable[[Seen, Mask, Mask], Answer]  # what is seen, the first mask and the later one (for oracles)


def of_bundle(bundle: Bundle[ExpansionManifest]) -> Contender:
    """A bundle on the CPU, on the grid it was trained on."""

    def answer(seen: Seen, first: Mask, later: Mask) -> Answer:
        with torch.inference_mode():
            said = bundle.network(seen.x_bcdhw, seen.clinical_bn)
        conventional, small = said.expands_bk[0].tolist()
        return Answer(
            later=(said.hematoma_bcdhw[0, 0] >= 0.5).numpy(),
            conventional=bundle.manifest.expands.percent(conventional)[0],
            small=bundle.manifest.expands_3_ml.percent(small)[0],
        )

    return answer


def as_it_was(seen: Seen, first: Mask, later: Mask) -> Answer:
    """The next day is today."""
    return Answer(later=first)


def dilated_to(spacing_mm: tuple[float, float, float]) -> Contender:
    """The first hematoma grown alike to all sides until it has the volume of the later one: nobody knows that."""

    def answer(seen: Seen, first: Mask, later: Mask) -> Answer:
        outside_mm = ndimage.distance_transform_edt(~first, spacing_mm) - ndimage.distance_transform_edt(
            first, spacing_mm
        )
        chosen = np.zeros(first.size, np.bool_)
        chosen[np.argsort(outside_mm, axis=None, kind="stable")[: int(later.sum())]] = True
        return Answer(later=chosen.reshape(first.shape))

    return answer


def cases_of(
    contenders: Mapping[str, Contender], batches: Iterable[Patients], spacing_mm: tuple[float, float, float]
) -> dict[str, list[Case]]:
    """Each contender on each patient (batches of one), and `FROM_NUMBERS`, which says no picture.

    The last is left out where fewer than five patients expand, or do not.
    """
    found: dict[str, list[Case]] = {name: [] for name in contenders}
    known, truths = [], list[list[bool]]()
    for batch in batches:
        seen = seen_of(batch)
        first, later = (share[0, 0].numpy() > 0.5 for share in (seen.baseline_bcdhw, seen.later_hematoma_bcdhw))
        known.append(batch.known_bn[0, _ASKED].tolist())
        truths.append(batch.became_bn[0, [CONVENTIONAL, SMALL]].bool().tolist())
        for name, contender in contenders.items():
            answer = contender(seen, first, later)
            picture = _picture(answer.later, first, later, prod(spacing_mm) / 1000)
            found[name].append(_case(truths[-1], answer.conventional, answer.small, picture=picture))
    if any(min(sum(each), len(each) - sum(each)) < _FOLDS for each in zip(*truths, strict=True)):
        return found  # too few of one kind for folds
    said = zip(*(_from_numbers(np.array(known), truth) for truth in np.array(truths).T), strict=True)
    by_numbers = [_case(truth, *percents, picture=None) for truth, percents in zip(truths, said, strict=True)]
    return found | {FROM_NUMBERS: by_numbers}


def _case(truth: Sequence[bool], conventional: float | None, small: float | None, *, picture: Picture | None) -> Case:
    return Case(expands=truth[0], expands_3_ml=truth[1], conventional=conventional, small=small, picture=picture)


def _picture(said: Mask, first: Mask, later: Mask, voxel_ml: float) -> Picture:
    grown, predicted = later & ~first, said & ~first
    total = int(grown.sum() + predicted.sum())
    return Picture(
        growth_dice=2 * int((grown & predicted).sum()) / total if total else 1.0,
        volume_error_ml=(int(said.sum()) - int(later.sum())) * voxel_ml,
        false_growth_ml=int((predicted & ~grown).sum()) * voxel_ml,
    )


def _from_numbers(known: Values, truth: NDArray[np.bool_]) -> list[float]:
    """Percent by logistic regression, each patient by a model that did not see it."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    said = cross_val_predict(model, known, truth, cv=_FOLDS, method="predict_proba")
    return [100 * float(probability) for probability in said[:, 1]]


def figures(cases: Sequence[Case]) -> dict[str, Figure]:
    """Of one contender, by name."""
    pictured = [(case.expands, case.picture) for case in cases if case.picture]
    said = [(case.conventional / 100, case.expands) for case in cases if case.conventional is not None]
    small = [(case.small / 100, case.expands_3_ml) for case in cases if case.small is not None]
    return {
        "growth Dice": _mean([picture.growth_dice for expands, picture in pictured if expands]),
        "volume error mL": _mean([picture.volume_error_ml for _, picture in pictured]),
        "absolute error mL": _mean([abs(picture.volume_error_ml) for _, picture in pictured]),
        "false growth mL": _mean([picture.false_growth_ml for expands, picture in pictured if not expands]),
        "AUC 6 mL or 33 %": figure([np.array([pair]) for pair in said], _auc),
        "AUC 3 mL": figure([np.array([pair]) for pair in small], _auc),
        "Brier": _mean([(probability - expands) ** 2 for probability, expands in said]),
    }


def _mean(values: Sequence[float]) -> Figure:
    return figure([np.array([value]) for value in values], lambda every: float(every.mean()))


def _auc(pairs: Values) -> float:
    """Of (patient, score and truth)."""
    truth = pairs[:, 1] > 0
    return float(roc_auc_score(truth, pairs[:, 0])) if 0 < truth.sum() < len(truth) else float("nan")
