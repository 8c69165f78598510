"""System B measured beside ways that need no network."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import nan

import numpy as np
import torch

from ichnode.inference.manifest import PrognosisManifest
from models.prognosis import units_on
from training.evaluate.bootstrap import Figure, Values
from training.patients.batch import Patients
from training.patients.evaluation import (
    FROM_NUMBERS,
    MAJORITY,
    Contender,
    Evaluate,
    Rows,
    auc,
    from_numbers,
    markdown_table,
    mean,
    of_pairs,
)
from training.prognosis.export import columns
from training.prognosis.system import PrognosisSystem, truth_of

_PUBLISHED = (  # AUC and its deviation, then the measures in the order of `_STATISTICS`
    ("perez", 0.626, 0.09, 0.569, 0.569, 0.560, 0.503, 0.685, 0.579, 0.600),
    ("outcome-alone", 0.687, 0.07, 0.611, 0.592, 0.531, 0.516, 0.687, 0.651, 0.642),
    ("outcome-age", 0.725, 0.08, 0.657, 0.663, 0.678, 0.548, 0.805, 0.645, 0.683),
    ("outcome-gcs-8", 0.706, 0.10, 0.634, 0.632, 0.636, 0.554, 0.727, 0.630, 0.649),
    ("outcome-gcs-8-age", 0.670, 0.08, 0.623, 0.625, 0.632, 0.548, 0.761, 0.619, 0.655),
    ("outcome-gcs", 0.697, 0.06, 0.638, 0.636, 0.621, 0.550, 0.780, 0.651, 0.670),
    ("outcome-gcs-age", 0.716, 0.05, 0.672, 0.668, 0.657, 0.569, 0.777, 0.680, 0.712),
)
_PUBLISHED_BY = (
    "published, real data (Cobo 2024: 261 patients, means over ten folds, their notebook's bars read by pixel; "
    "the last row is what they propose):"
)


def rows(contenders: Mapping[str, Contender], batches: Iterable[Patients], system: PrognosisSystem) -> Rows:
    """Of poor outcome as the paper's table has it, and of the other tasks."""
    patients = list(batches)
    truth = torch.cat([columns(truth_of(batch)) for batch in patients]).numpy()
    poor = truth[:, 0].tolist()
    found = {name: _of_network(contender, patients, truth) for name, contender in contenders.items()}
    by_numbers = from_numbers(patients, poor)
    always = [float(np.nanmean(truth[:, 0]) > 0.5)] * len(patients)
    nothing = mean([])
    for name, said in ((FROM_NUMBERS, by_numbers), (MAJORITY, always)):
        if said is not None:
            found[name] = _of_poor(said, poor) | dict.fromkeys(_OTHERS, nothing)
    return found


_OTHERS = ("AUC GCS 8 or less", "GCS category right", "AUC 80 years")


def _of_network(contender: Contender, patients: Sequence[Patients], truth: Values) -> dict[str, Figure]:
    """What it does not learn has no figure."""
    with torch.inference_mode():
        answers = [contender.network(batch.hu_bdhw[:, None]) for batch in patients]
    logits = torch.cat([columns(answer) for answer in answers]).double().numpy()
    said = {
        task: [contender.probability(task, logit) if learns else nan for logit in logits[:, index]]
        for index, (task, learns) in enumerate(contender.system.learns.items())
    }
    categories = [
        float(units_on(answer.gcs_bu) == units_on(truth_of(batch).gcs_bu - 0.5))
        for answer, batch in zip(answers, patients, strict=True)
        if contender.system.gcs and contender.system.ordinal and truth_of(batch).gcs_bu.isfinite().all()
    ]
    others = (
        auc(said["low_gcs"], truth[:, 1].tolist()),
        mean(categories),
        auc(said["elderly"], truth[:, 2].tolist()),
    )
    return _of_poor(said["poor"], truth[:, 0].tolist()) | dict(zip(_OTHERS, others, strict=True))


def _of_poor(probability: Sequence[float], poor: Sequence[float]) -> dict[str, Figure]:
    """At a threshold of one half."""
    return {
        "AUC": auc(probability, poor),
        "Brier": of_pairs(probability, poor, lambda said, true: float(np.mean((said - true) ** 2))),
        **{name: of_pairs(probability, poor, statistic) for name, statistic in _STATISTICS.items()},
    }


def _shares(of: Callable[[int, int, int, int], tuple[float, float]]) -> Callable[[Values, Values], float]:
    def statistic(said: Values, true: Values) -> float:
        yes, poor = said > 0.5, true > 0.5
        part, whole = of(
            int((yes & poor).sum()), int((yes & ~poor).sum()), int((~yes & poor).sum()), int((~yes & ~poor).sum())
        )
        return part / whole if whole else float("nan")

    return statistic


_recall = _shares(lambda tp, fp, fn, tn: (tp, tp + fn))
_specificity = _shares(lambda tp, fp, fn, tn: (tn, tn + fp))
_STATISTICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": _shares(lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn)),
    "balanced accuracy": lambda said, true: (_recall(said, true) + _specificity(said, true)) / 2,
    "specificity": _specificity,
    "NPV": _shares(lambda tp, fp, fn, tn: (tn, tn + fn)),
    "precision": _shares(lambda tp, fp, fn, tn: (tp, tp + fp)),
    "recall": _recall,
    "F1": _shares(lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn)),
}


def _published() -> str:
    """The table of the paper, each row by the variant that trains such a network."""
    table = [["", "AUC (sd)", *_STATISTICS]]
    for name, area, deviation, *others in _PUBLISHED:
        table.append([name, f"{area:.3f} ({deviation:.2f})", *(f"{figure:.3f}" for figure in others)])
    return f"{_PUBLISHED_BY}\n\n{markdown_table(table)}"


EVALUATE = Evaluate(
    kind=PrognosisManifest,
    rows=rows,
    published=_published(),
    labels=("90-day mRS 4-6", "GCS 8 or less", "age 80 and over"),
    more_is_better={"AUC": True, "balanced accuracy": True, "AUC GCS 8 or less": True, "AUC 80 years": True},
)
