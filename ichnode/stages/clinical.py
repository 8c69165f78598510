"""Clinical: what a table of the hospital tells of a patient at the first CT, found by accession number.

Whoever writes the table may do so at any time; each analysis reads it as it then is. What is wrong in it is logged and
not told to any model; nothing else waits for it.
"""

import csv
import logging
from collections.abc import Mapping
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
    """A CSV file, or None. Of several lines for one accession number the last counts."""

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
    reader = csv.DictReader(lines, delimiter=";" if lines and ";" in lines[0] else ",", restkey="more than the header")
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    unknown = sorted(set(names) - set(_Told.model_fields) - {_ACCESSION})
    if _ACCESSION not in names or unknown:
        expected = ", ".join((_ACCESSION, *_Told.model_fields))
        return {}, [f"{file}: the header is {', '.join(names) or 'empty'}; known columns are {expected}"]
    reader.fieldnames = names
    known, problems = dict[str, Mapping[str, float]](), []
    for line in reader:
        accession = (line.pop(_ACCESSION) or "").strip()
        cells = {name: _number(cell) for name, cell in line.items() if cell and str(cell).strip()}
        try:
            told = _Told.model_validate(cells).model_dump(exclude_none=True)
        except ValidationError as problem:
            what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
            problems.append(f"{file}, line {reader.line_num}: {what}")
            continue
        if accession:
            known[accession] = {name: float(value) for name, value in told.items()}
    return known, problems


def _number(cell: str | list[str]) -> str:
    """A decimal comma is a point."""
    return str(cell).strip().replace(",", ".")
