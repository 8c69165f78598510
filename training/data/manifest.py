"""The manifest: one JSON line for each head CT with what is known about it; every importer and the simulator write it.

What is not known is null, and every loss that needs it leaves that row out. In label volumes the value 255 says that
nothing is known of a voxel: it counts in no loss. The value 6 is hemorrhage of unknown type: it counts only in losses
on the union of all types. Zero is no hemorrhage, so a mask has to show every hemorrhage of its study.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ichnode.domain.findings import HemorrhageType

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Present = Literal["IPH", "IVH", "SAH", "SDH", "EDH", "any"]
Label = Literal[Present, "none", "unknown"]

TYPES = tuple(kind.value for kind in HemorrhageType)  # values 1 to 5 in every label volume; 0 is no hemorrhage
ANY, UNKNOWN = 6, 255
LABEL_VALUES: dict[str, int] = {
    "none": 0,
    **{name: value for value, name in enumerate(TYPES, start=1)},
    "any": ANY,
    "unknown": UNKNOWN,
}
_HIGHEST_OUTCOME = {"mrs_90d": 6, "death_30d": 1, "poor_prognosis": 1}
_PATHS = ("ct", "mask")
MaskValue = Annotated[int, Field(ge=0, le=255)]


class DataError(Exception):
    """A manifest, a table or an image is not usable; the message says which and why."""


class Outcome(BaseModel):
    """What became of the patient."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: Literal["mrs_90d", "death_30d", "poor_prognosis"]
    value: int

    @model_validator(mode="after")
    def _on_its_scale(self) -> Self:
        highest = _HIGHEST_OUTCOME[self.type]
        if not 0 <= self.value <= highest:
            raise ValueError(f"{self.type} is a number from 0 to {highest}, not {self.value}")
        return self


class Row(BaseModel):
    """One head CT. Paths are absolute here, relative to the manifest's folder in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    patient: Annotated[str, Field(min_length=1)]  # the same in every data set that shares the patient
    study: Annotated[str, Field(min_length=1)]  # unique within its source
    ct: Path  # NIfTI in HU, or a folder of DICOM files
    source: str
    licence: str
    split: Split
    mask: Path | None = None  # NIfTI, or DICOM Segmentation, on the grid of the CT
    label_map: dict[MaskValue, Label] | None = None  # mask value or segment number -> what it is; 0 needs no entry
    types: tuple[Present, ...] | None = None  # the hemorrhages of the study; () is a reading without any
    volume_ml: Annotated[float, Field(ge=0)] | None = None  # of all hemorrhages together
    t_hours: Annotated[float, Field(ge=0)] | None = None  # from the patient's first CT to this one
    onset_hours: Annotated[float, Field(ge=0)] | None = None  # from the first symptom to the patient's first CT
    paired_with: str | None = None  # `study` of the first CT of a follow-up
    age: Annotated[float, Field(ge=0, le=120)] | None = None  # years
    gcs: Annotated[int, Field(ge=3, le=15)] | None = None
    systolic_mmhg: Annotated[float, Field(ge=0, le=400)] | None = None  # at the first CT
    anticoagulant: bool | None = None  # taken before the hemorrhage
    thrombectomy: bool | None = None  # before this CT
    outcome: Outcome | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether the hemorrhage was never in a patient."""
        return "simulated" in self.source.lower()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mask is None) != (self.label_map is None):
            raise ValueError("mask and label_map come together")
        if self.paired_with == self.study:
            raise ValueError("a study cannot be its own follow-up")
        return self


def split_of(patient: str) -> Split:
    """By hash of the patient: 80 % train, 10 % validation, 10 % test, the same everywhere and for ever."""
    share = int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=8).digest(), "big") / 2**64
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def read_manifest(path: Path) -> tuple[Row, ...]:
    """Every row. Raises DataError with file and line, also where a patient is in two splits, and OSError."""
    folder = path.absolute().parent
    rows: list[Row] = []
    seen = _Seen()
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = Row.model_validate(_resolved(json.loads(line), folder))
            seen.add(row)
        except (ValueError, DataError) as problem:
            raise DataError(f"{path}, line {number}: {explained(problem)}") from problem
        rows.append(row)
    return tuple(rows)


def write_manifest(rows: Iterable[Row], path: Path) -> None:
    """All rows, nulls included; raises DataError as `read_manifest` would, before anything is written."""
    folder = path.absolute().parent
    lines: list[str] = []
    seen = _Seen()
    for number, row in enumerate(rows, start=1):
        try:
            seen.add(row)
        except DataError as problem:
            raise DataError(f"{path}, line {number}: {problem}") from problem
        fields = row.model_dump(mode="json")
        paths = {name: _relative(fields[name], folder) for name in _PATHS if fields[name]}
        lines.append(json.dumps(fields | paths, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), "utf-8")


def explained(problem: Exception) -> str:
    """One line: which field, why, and what stood there."""
    if isinstance(problem, json.JSONDecodeError):
        return f"not JSON: {problem}"
    if not isinstance(problem, ValidationError):
        return str(problem)
    return "; ".join(
        f"{'.'.join(map(str, error['loc']))}: {error['msg']}{_instead(error['input'])}".removeprefix(": ")
        for error in problem.errors()
    )


def _instead(value: object) -> str:
    return f", not {value!r}" if isinstance(value, str | int | float) else ""


class _Seen:
    """What the rows so far forbid the next one."""

    def __init__(self) -> None:
        self._studies: set[tuple[str, str]] = set()
        self._splits: dict[str, str] = {}

    def add(self, row: Row) -> None:
        if (row.source, row.study) in self._studies:
            raise DataError(f"study {row.study} of {row.source} is there twice")
        if self._splits.setdefault(row.patient, row.split) != row.split:
            raise DataError(f"patient {row.patient} is in {self._splits[row.patient]} and in {row.split}")
        self._studies.add((row.source, row.study))


def _resolved(fields: Any, folder: Path) -> Any:
    if not isinstance(fields, dict):
        raise DataError("is not a JSON object")
    return fields | {
        name: os.path.normpath(folder / fields[name]) for name in _PATHS if isinstance(fields.get(name), str)
    }


def _relative(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
