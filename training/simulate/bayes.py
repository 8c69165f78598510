"""Bayes: how well each label of the simulated patients can be predicted at all.

`all`: by one who knows every number of the simulator but the label itself (for the GCS: but the GCS).
`picture`: by one who sees only what the first CT shows of the lesions, as far as boosted trees find it; atrophy, which
also tells of age, is not among the numbers, so the row of age is a lower bound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]
from sklearn.model_selection import cross_val_predict  # type: ignore[import-untyped]

from training.data.manifest import TYPES
from training.simulate.cohort import patient_spec
from training.simulate.spec import SITES, Lesion, PatientSpec

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The best possible figures of one label, among the patients of one kind."""

    label: str
    kind: str
    cases: int
    prevalence: float
    majority: float  # accuracy of always saying the commoner answer
    accuracy: float | None
    auc: float | None
    picture_accuracy: float
    picture_auc: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label by the probability that the simulator gave it."""

    name: str
    kind: str
    probability: Callable[[PatientSpec], float]
    certain: bool = False  # known outright to one who knows every number


LABELS = (
    Label(name="expansion", kind="iph", probability=lambda p: p.expansion.probability),
    Label(name="30-day death", kind="iph", probability=lambda p: p.outcome.death_30d_probability),
    Label(name="90-day mRS 4-6", kind="iph", probability=lambda p: p.outcome.poor_90d_probability),
    Label(name="GCS 8 or less", kind="iph", probability=lambda p: p.outcome.low_gcs_probability),
    Label(name="age 80 and over", kind="iph", probability=lambda p: float(p.age >= 80), certain=True),
    Label(
        name="late hemorrhage",
        kind="thrombectomy",
        probability=lambda p: p.thrombectomy_hemorrhage_probability or 0.0,
    ),
)


def bayes_limits(n: int, seed: int) -> list[Limit]:
    """The limits of each label, from `n` patients of its kind; seeds count up from `seed`."""
    limits = []
    for kind in dict.fromkeys(label.kind for label in LABELS):
        patients = [patient_spec(seed + i, kind) for i in range(n)]
        seen = np.array([visible(patient) for patient in patients])
        limits += [_limit(label, patients, seen) for label in LABELS if label.kind == kind]
    return limits


def table(limits: Sequence[Limit]) -> str:
    """The limits as a Markdown table."""
    head = "| label | patients | cases | prevalence | majority | accuracy | AUC | accuracy, picture | AUC, picture |"
    rows = [
        f"| {x.label} | {x.kind} | {x.cases} | {x.prevalence:.3f} | {x.majority:.3f} | {_cell(x.accuracy)} "
        f"| {_cell(x.auc)} | {x.picture_accuracy:.3f} | {x.picture_auc:.3f} |"
        for x in limits
    ]
    return "\n".join([head, "|---" * 9 + "|", *rows])


def accuracy(score: Array, probability: Array) -> float:
    """Expected accuracy of saying yes where `score` is above one half; the labels have the given probabilities."""
    return float(np.where(score > 0.5, probability, 1 - probability).mean())


def auc(score: Array, probability: Array) -> float:
    """Expected area under the ROC curve of a score; the labels have the given probabilities. Ties count one half."""
    _, place = np.unique(score, return_inverse=True)
    yes, no = np.bincount(place, probability), np.bincount(place, 1 - probability)
    below = np.cumsum(no) - no
    return float((yes * (below + no / 2)).sum() / (yes.sum() * no.sum()))


def visible(patient: PatientSpec) -> list[float]:
    """What the first CT shows of the lesions, as numbers."""
    seen = [lesion for lesion in patient.lesions if lesion.volume_ml > 0]
    volumes = [sum(lesion.volume_ml for lesion in seen if lesion.type == type_) for type_ in TYPES]
    iph = max((x for x in seen if x.type == "IPH"), key=lambda x: x.volume_ml, default=None)
    return [*volumes, *(_shape(iph) if iph else [float("nan")] * 9), patient.staining_ml]


def _shape(iph: Lesion) -> list[float]:
    signs = (iph.irregularity, iph.satellites, iph.blend, iph.swirl, iph.black_hole, iph.fluid_level)
    return [SITES["IPH"].index(iph.site), iph.side, iph.edema_ml, *(float(sign) for sign in signs)]


def _limit(label: Label, patients: Sequence[PatientSpec], seen: Array) -> Limit:
    probability = np.array([label.probability(patient) for patient in patients])
    guess = cross_val_predict(HistGradientBoostingRegressor(max_depth=4, max_iter=150), seen, probability)
    prevalence = float(probability.mean())
    return Limit(
        label=label.name,
        kind=label.kind,
        cases=len(patients),
        prevalence=prevalence,
        majority=max(prevalence, 1 - prevalence),
        accuracy=None if label.certain else accuracy(probability, probability),
        auc=None if label.certain else auc(probability, probability),
        picture_accuracy=accuracy(guess, probability),
        picture_auc=auc(guess, probability),
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
