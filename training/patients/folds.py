"""Folds: patients of a manifest in so many parts, one to test, the next to validate with, the others to train on.

Alike in what the system answers, drawn once for all: whoever names the same number of folds of the same manifest for it
gets the same.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from sklearn.model_selection import StratifiedKFold  # type: ignore[import-untyped]

from training.data.manifest import DataError, Row, Split, read_manifest
from training.fit.learned_from import LearnedFrom
from training.patients.export import Trained
from training.patients.likeness import LIKENESSES, AlikeIn, Kind

_SEED = 1

Data = Annotated[Path | None, typer.Option(help="Manifest (JSONL) of own patients", exists=True, dir_okay=False)]
Folds = Annotated[int | None, typer.Option(min=3, help="So many parts of the manifest, instead of its splits")]


def rows_of(data: Path, folds: int | None, fold: int, alike_in: AlikeIn) -> Sequence[Row]:
    """Of a manifest, in its own splits or in folds. Raises DataError and OSError."""
    rows = read_manifest(data)
    return in_folds(rows, folds, fold, alike_in) if folds else rows


def in_folds(rows: Sequence[Row], folds: int, fold: int, alike_in: AlikeIn) -> list[Row]:
    """The rows, each in the split that it has when `fold`, from 0, is the one to test.

    Raises DataError where there are fewer patients than folds, or no such fold.
    """
    if fold >= folds:
        raise DataError(f"of {folds} folds the last is {folds - 1}, not {fold}")
    kind_of = LIKENESSES[alike_in](rows)
    if len(kind_of) < folds:
        raise DataError(f"{len(kind_of)} patients make no {folds} folds")
    patients = sorted(kind_of)
    kinds = [" ".join(kind) for kind in _often([kind_of[patient] for patient in patients], folds)]
    part_of = dict[str, int]()
    for part, (_, tested) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=_SEED).split(kinds, kinds)):
        part_of |= {patients[index]: part for index in tested}
    return [row.model_copy(update={"split": _split(part_of[row.patient], folds, fold)}) for row in rows]


def must_be_of_fold(name: str, made: Trained[Any], data: Path, folds: int, fold: int, alike_in: AlikeIn) -> None:
    """Raises DataError for a training that saw other own patients than all but those of that fold, and OSError."""
    if made.own and (unlike := LearnedFrom.of(data, folds, fold, alike_in).unlike(made.own)):
        raise DataError(f"{name} may have learned from those of fold {fold}: {unlike}")


def _often(kinds: list[Kind], least: int) -> list[Kind]:
    """Those that are too few to be in every fold joined to the most frequent ones of the same first word, or of all."""
    counts = Counter(kinds)
    while len(counts) > 1 and counts[rarest := min(counts, key=lambda kind: (counts[kind], kind))] < least:
        few = counts.pop(rarest)
        joined = max(counts, key=lambda kind: (kind[0] == rarest[0], counts[kind], kind))
        counts[joined] += few
        kinds = [joined if kind == rarest else kind for kind in kinds]
    return kinds


def _split(part: int, folds: int, fold: int) -> Split:
    return "test" if part == fold else "validation" if part == (fold + 1) % folds else "train"
