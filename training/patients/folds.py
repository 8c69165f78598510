"""Folds: patients of a manifest in so many parts, one to test, the next to validate with, the others to train on.

Alike in outcome, drawn once for all: whoever names the same number of folds of the same manifest gets the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.model_selection import StratifiedKFold  # type: ignore[import-untyped]

from training.data.manifest import DataError, Row, Split, read_manifest

_SEED = 1

Data = Annotated[Path | None, typer.Option(help="Manifest (JSONL) of own patients", exists=True, dir_okay=False)]
Folds = Annotated[int | None, typer.Option(min=3, help="So many parts of the manifest, instead of its splits")]


def rows_of(data: Path, folds: int | None, fold: int) -> Sequence[Row]:
    """Of a manifest, in its own splits or in folds. Raises DataError and OSError."""
    rows = read_manifest(data)
    return in_folds(rows, folds, fold) if folds else rows


def in_folds(rows: Sequence[Row], folds: int, fold: int) -> list[Row]:
    """The rows, each in the split that it has when `fold`, from 0, is the one to test.

    Raises DataError where there are fewer patients than folds, or no such fold.
    """
    if fold >= folds:
        raise DataError(f"of {folds} folds the last is {folds - 1}, not {fold}")
    outcomes = {row.patient: -1 for row in rows}
    outcomes |= {row.patient: row.outcome.value for row in rows if row.outcome is not None}
    if len(outcomes) < folds:
        raise DataError(f"{len(outcomes)} patients make no {folds} folds")
    patients = sorted(outcomes)
    kinds = np.array([outcomes[patient] for patient in patients])
    rare = [kind for kind in np.unique(kinds) if np.count_nonzero(kinds == kind) < folds]
    kinds[np.isin(kinds, rare)] = -2  # too few to be in every fold: together
    if np.count_nonzero(kinds == -2) < folds:
        kinds[kinds == -2] = max(set(kinds.tolist()) - {-2}, default=-1)
    part_of = dict[str, int]()
    for part, (_, tested) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=_SEED).split(kinds, kinds)):
        part_of |= {patients[index]: part for index in tested}
    return [row.model_copy(update={"split": _split(part_of[row.patient], folds, fold)}) for row in rows]


def _split(part: int, folds: int, fold: int) -> Split:
    return "test" if part == fold else "validation" if part == (fold + 1) % folds else "train"
