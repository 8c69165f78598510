"""Clinical: what a table of the hospital tells of a patient at the first CT, found by accession number.

Whoever writes the table may do so at any time; each analysis reads it as it then is. What is wrong in it is logged and
not told to any model; nothing else waits for it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

log = logging.getLogger(__name__)

_ACCESSION = "accession"


class _Told(BaseModel):
    """One line, by the names of `inference.expansion.CLINICAL`; empty cells are not known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    onset_to_ct_h: Annotated[float, Field(ge=0, le=1000)] | None = None
    anticoagulant: bool | None = None  # taken before the hemorrhage: 0 or 1
    systolic_mmhg: Annotated[float, Field(gt=20, lt=400)] | None = None
    age: Annotated[float, Field(ge=0, le=120)] | None = None  # years
    gcs: Annotated[int, Field(ge=3, le=15)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalTable:
    """A CSV file without line breaks inside cells, or None. Of several lines for one patient the last counts."""

    file: Path | None
    _complained: set[str] = field(default_factory=set)  # each problem is logged once

    def of(self, accession: str) -> Mapping[str, float]:
        """What is known, by the names of `inference.expansion.CLINICAL`."""
        if self.file is None or not accession:
            return {}
        known, problems = _read(self.file)
        for problem in problems:
            if problem not in self._complained:
                self._complained.add(problem)
                log.warning("clinical_not_read", extra={"detail": problem})
        return known.get(accession, {})


def problems_of(file: Path) -> tuple[str, ...]:
    """What is wrong in a table, for whoever sets it up."""
    return tuple(_read(file)[1])


def _read(file: Path) -> tuple[dict[str, Mapping[str, float]], list[str]]:
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        return {}, [f"{file}: {problem}"]
    separator = ";" if lines and ";" in lines[0] else ","
    rows = [[_plain(cell) for cell in line.split(separator)] for line in lines]  # a stray quote harms its line alone
    names = [name.lower() for name in rows[0]] if rows else []
    unknown = sorted(set(names) - set(_Told.model_fields) - {_ACCESSION})
    if _ACCESSION not in names or unknown:
        expected = ", ".join((_ACCESSION, *_Told.model_fields))
        return {}, [f"{file}: the header is {', '.join(names) or 'empty'}; known columns are {expected}"]
    known, problems = dict[str, Mapping[str, float]](), []
    for number, row in enumerate(rows[1:], start=2):
        try:
            accession, told = _line(names, row)
        except ValueError as problem:
            problems.append(f"{file}, line {number}: {_why(problem)}")
        else:
            known[accession] = told
    known.pop("", None)
    return known, problems


def _line(names: Sequence[str], row: Sequence[str]) -> tuple[str, Mapping[str, float]]:
    """Accession number, and what is told of it; a decimal comma is a point. Raises ValueError."""
    if not any(row):
        return "", {}
    if len(row) != len(names):
        raise ValueError(f"has {len(row)} cells, the header has {len(names)}")
    cells = dict(zip(names, row, strict=True))
    accession = cells.pop(_ACCESSION)
    told = _Told.model_validate({name: cell.replace(",", ".") for name, cell in cells.items() if cell})
    return accession, {name: float(value) for name, value in told.model_dump(exclude_none=True).items()}


def _why(problem: ValueError) -> str:
    if not isinstance(problem, ValidationError):
        return str(problem)
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in problem.errors())


def _plain(cell: str) -> str:
    return cell.strip().strip('"').strip()
