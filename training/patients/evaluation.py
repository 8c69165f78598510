"""Evaluation of the published systems on simulated patients that no training saw: a table each, and docs/evaluation.md.

Beside a bundle stand ways that need no network, what can be known at all, and what the paper published.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from sklearn.model_selection import cross_val_predict  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
from torch import nn

from ichnode.inference.manifest import Calibration, ForecasterManifest
from training.evaluate.bootstrap import Figure, Pairs, Values, figure
from training.evaluate.report import SIMULATED
from training.patients.batch import KNOWN, Patients
from training.simulate.bayes import Limit, bayes_limits

# Logistic regression on those that a network is told as well, each patient by one of five folds that did not see it.
# Who lacks a number has the median of the others, and that it was lacking is a number too: it is measured on the same
# patients as a network, and those alone of whom all is known may be others.
FROM_NUMBERS = "volume, age, GCS as told"
MAJORITY = "the more frequent outcome"  # said of everybody
COMPARED = "The first training less each other, 95 % interval over the same patients:"
AUC = "AUC"  # so begin the names of what is drawn as ROC curves
_ASKED = [KNOWN.index(name) for name in ("baseline_ml", "age", "gcs")]
_FOLDS = 5
_LIMIT_PATIENTS = 2000

Rows = dict[str, dict[str, Figure]]  # by contender and measure


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """A network that is measured, on the CPU."""

    network: nn.Module
    system: Any  # what it was trained as: which patients it reads, and which of the tasks it knows
    manifest: Any = None  # of a bundle; a checkpoint has none

    def probability(self, task: str, logit: float) -> float:
        """As the bundle calibrates the task of that name; of a checkpoint as the network says it."""
        calibration: Calibration | None = getattr(self.manifest, task, None)
        return calibration.percent(logit)[0] / 100 if calibration else 1 / (1 + exp(-logit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """How one of the systems is measured."""

    kind: type[ForecasterManifest]
    rows: Callable[[Mapping[str, Contender], Iterable[Patients], Any], Rows]  # batches of one that the system reads
    published: str  # Markdown
    labels: tuple[str, ...]  # of `training.simulate.bayes`, whose limits stand beside
    more_is_better: Mapping[str, bool]  # of the measures by which trainings are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was found."""

    title: str
    rows: Rows
    limits: Sequence[Limit]
    published: str
    provenance: str = SIMULATED  # the line that table and picture carry
    compared: Sequence[str] = ()  # a sentence for each training but the first

    def markdown(self) -> str:
        """A section of docs/evaluation.md."""
        headings = ["", *next(iter(self.rows.values()))]
        table = markdown_table([headings, *([name, *map(shown, row.values())] for name, row in self.rows.items())])
        known = [f"- {limit.label}: {limited(limit)}" for limit in self.limits]
        limits = ["What can be known at all (AUC):", "", *known, ""] if known else []
        compared = [COMPARED, "", *(f"- {sentence}" for sentence in self.compared), ""] if self.compared else []
        return "\n".join([f"{self.title}.", "", table, "", *compared, *limits, self.published])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the headings."""
    headings, *others = rows
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [headings, ["---"] * len(headings), *others])


def shown(found: Figure) -> str:
    """With a sign where it may have either; a count as it is."""
    if isinstance(found.value, int):
        return str(found.value)
    return found.text("+.2f" if found.value is not None and min(found.value, found.low or 0) < 0 else ".2f")


def picture_of(file: Path, heading: str) -> Path:
    """Where the picture of a section lies."""
    return file.parent / "pictures" / f"{file.stem}-{re.sub(r'[^a-z0-9]+', '-', heading.lower())}.png"


def limited(limit: Limit) -> str:
    """The AUC that is possible, in words."""
    all_known = "" if limit.auc is None else f"{limit.auc:.2f} by all numbers of the simulator, "
    return f"{all_known}{limit.picture_auc:.2f} by what the first CT shows of the lesions"


def limits_of(way: Evaluate) -> list[Limit]:
    """What can be known at all of the simulated population, of the labels that the system answers."""
    return [limit for limit in bayes_limits(_LIMIT_PATIENTS, seed=1) if limit.label in way.labels]


def write_section(file: Path, heading: str, text: str, picture: Path | None = None) -> None:
    """Put a section into a file of such sections, in place of the one of that heading; `picture` stands below."""
    if picture is not None:
        shown_at = Path(os.path.relpath(picture, file.parent)).as_posix()
        text = f"{text}\n\n![{heading}]({shown_at})"
    before = file.read_text("utf-8") if file.exists() else ""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", before, re.MULTILINE | re.DOTALL))
    sections[heading] = f"\n{text}\n\n"
    written = "".join(f"## {name}\n{sections[name]}" for name in sorted(sections))
    file.write_text(f"{_HEAD}\n\n{written.rstrip()}\n", "utf-8")


_HEAD = f"""# Evaluation of the published systems

{SIMULATED}, but where a section names a manifest and does not say simulated. Written by `python -m training
evaluate`, not by hand: what it measured, on whom, and what the papers published for real patients. Numbers are
followed by 95 % intervals over patients. Simulated and real patients do not compare: a paper's number stands beside a
bundle's to show what was measured, not who is better."""


def mean(values: Sequence[float], pairs: Pairs = ()) -> Figure:
    """With its interval over patients; `pairs` of said and true where the values are their errors."""
    found = figure([np.array([value], np.float64) for value in values], lambda every: float(every.mean()))
    return replace(found, pairs=pairs)


def count(of_patients: Sequence[bool]) -> Figure:
    """How many are so; not known of nobody."""
    return Figure(value=sum(of_patients) if of_patients else None, low=None, high=None, patients=len(of_patients))


def auc(said: Sequence[float], true: Sequence[float]) -> Figure:
    """Area under the ROC curve; none where all are alike."""
    return replace(of_pairs(said, true, _auc), pairs=_known_pairs(said, true))


def of_pairs(said: Sequence[float], true: Sequence[float], statistic: Callable[[Values, Values], float]) -> Figure:
    """`statistic` of what is said and what is true, over the patients of whom this is known."""
    pairs = [np.array([pair], np.float64) for pair in _known_pairs(said, true)]
    return figure(pairs, lambda every: statistic(every[:, 0], every[:, 1]))


def _known_pairs(said: Sequence[float], true: Sequence[float]) -> Pairs:
    return tuple(pair for pair in zip(said, true, strict=True) if np.isfinite(pair).all())


def from_numbers(batches: Sequence[Patients], truth: Sequence[float]) -> list[float] | None:
    """Probabilities by `FROM_NUMBERS`, NaN where the truth is not known; None for too few patients of one kind."""
    is_known = np.isfinite(truth)
    true = np.array(truth)[is_known] > 0
    asked: NDArray[np.float64] = np.array([batch.known_bn[0, _ASKED].tolist() for batch in batches])[is_known]
    told = asked[:, np.isfinite(asked).any(axis=0)]
    if min(int(true.sum()), int((~true).sum())) < _FOLDS or not told.shape[1]:
        return None
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    model = make_pipeline(imputer, StandardScaler(), LogisticRegression())
    said = np.full(len(truth), np.nan)
    said[is_known] = cross_val_predict(model, told, true, cv=_FOLDS, method="predict_proba")[:, 1]
    return [float(p) for p in said]


def _auc(said: Values, true: Values) -> float:
    truth = true > 0
    return float(roc_auc_score(truth, said)) if 0 < truth.sum() < len(truth) else float("nan")
