"""Importing: what an importer drafts becomes manifest rows; a draft that is not sound is refused with its number."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ichnode.errors import RefusedSeries
from training.data import bhsd, cq500, hemseg, hospital, instance22, perez, physionet
from training.data.load import native
from training.data.manifest import LABEL_VALUES, UNKNOWN, DataError, Row, explained

Draft = dict[str, Any]  # fields of a Row, not yet checked
Importer = Callable[[Path], Iterator[Draft | DataError]]  # in place of a draft, why there is none

IMPORTERS: dict[str, Importer] = {
    "bhsd": bhsd.drafts,
    "cq500": cq500.drafts,
    "hemseg": hemseg.drafts,
    "hospital": hospital.drafts,
    "instance22": instance22.drafts,
    "perez": perez.drafts,
    "physionet": physionet.drafts,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row that is not in the manifest."""

    number: int  # among all rows of the importer, from 1
    reason: str
    study: str = ""  # patient and study, where they are known


def sift(drafts: Iterable[Draft | DataError]) -> tuple[list[Row], list[Refused]]:
    """The rows whose CT and mask fit together, measured; and the others by number."""
    rows: dict[int, Row] = {}
    refused: list[Refused] = []
    for number, draft in enumerate(drafts, start=1):
        try:
            rows[number] = _row(draft)
        except (ValidationError, DataError, RefusedSeries, OSError) as problem:
            refused.append(Refused(number=number, reason=explained(problem), study=_study_of(draft)))
    studies = {(row.patient, row.study) for row in rows.values()}
    for number, row in list(rows.items()):
        if row.paired_with and (row.patient, row.paired_with) not in studies:
            del rows[number]
            reason = f"its first CT, {row.paired_with}, is not there"
            refused.append(Refused(number=number, reason=reason, study=f"{row.patient} {row.study}"))
    return list(rows.values()), sorted(refused, key=lambda one: one.number)


def _study_of(draft: Draft | DataError) -> str:
    return "" if isinstance(draft, DataError) else " ".join(str(draft[name]) for name in ("patient", "study"))


def _row(draft: Draft | DataError) -> Row:
    if isinstance(draft, DataError):
        raise draft
    return _measured(Row.model_validate(draft))


def _measured(row: Row) -> Row:
    """With the hemorrhage types and the volume that its mask shows, unless these were given.

    Reads every voxel, so that a training does not stumble over one. Raises DataError where mask and reading differ.
    """
    volume, labels = native(row)
    if row.mask is None or (labels == UNKNOWN).any():
        return row
    present = set(np.unique(labels).tolist())
    types = tuple(name for name, value in LABEL_VALUES.items() if value and value in present)
    if row.types is not None:
        _must_agree(types, row.types)
    volume_ml = round(volume.grid.volume_ml(labels > 0), 3)
    known = row.model_dump(exclude_none=True)
    return Row.model_validate({"types": types, "volume_ml": volume_ml} | known)


def _must_agree(shown: Sequence[str], read: Sequence[str]) -> None:
    """A mask shows every hemorrhage of its study: what was read, and nothing else; `any` may be each."""
    vague = "any" in (*shown, *read)
    if bool(shown) != bool(read) or not (vague or set(shown) <= set(read)):
        said = [", ".join(types) or "no hemorrhage" for types in (shown, read)]
        raise DataError(f"its mask shows {said[0]}, it was read as {said[1]}")
