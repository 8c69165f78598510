"""A hospital's own patients: studies.csv with a line for each CT, paths relative to it.

Needed: patient, accession, ct (NIfTI in HU, or a folder of DICOM files). Optional: mask (DICOM Segmentation or NIfTI),
labels ("1=IPH 2=IVH": segment number or mask value; else 1 to 6 are IPH IVH SAH SDH EDH any), types ("IPH IVH", or
"none" for a reading without hemorrhage), paired_with (accession of the first CT of a follow-up), t_hours, onset_hours,
volume_ml, age, gcs, systolic_mmhg, anticoagulant and thrombectomy (0 or 1), outcome_type and outcome.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.manifest import ANY, LABEL_VALUES, split_of
from training.data.table import Cells, read_table

TABLE = "studies.csv"
_AS_THEY_ARE = (
    *("t_hours", "onset_hours", "paired_with", "volume_ml", "age", "gcs"),
    *("systolic_mmhg", "anticoagulant", "thrombectomy"),
)
_DEFAULT_LABELS = {value: name for name, value in LABEL_VALUES.items() if 0 < value <= ANY}


def drafts(folder: Path) -> Iterator[dict[str, Any]]:
    """A draft for each line, so that the number of a refused row is that of the line below the header."""
    for line in read_table(folder / TABLE, ("patient", "accession", "ct")):
        patient, ct, mask = line["patient"], line["ct"], line.get("mask")
        yield {
            "patient": f"hospital-{patient}" if patient else None,
            "study": line["accession"],
            "ct": folder / ct if ct else None,
            "mask": folder / mask if mask else None,
            "label_map": _label_map(line.get("labels")) if mask else None,
            "types": _types(line.get("types")),
            "outcome": _outcome(line),
            "source": "hospital",
            "licence": "the hospital's own",
            "split": split_of(f"hospital-{patient}"),
            **{name: line.get(name) for name in _AS_THEY_ARE},
        }


def _label_map(text: str | None) -> dict[Any, str]:
    if not text:
        return dict(_DEFAULT_LABELS)
    pairs = (item.partition("=") for item in text.split())
    return {value: name for value, _, name in pairs}


def _types(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(text.split())


def _outcome(line: Cells) -> dict[str, str | None] | None:
    if not line.get("outcome"):
        return None
    return {"type": line.get("outcome_type"), "value": line.get("outcome")}
