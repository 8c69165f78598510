"""PhysioNet ct-ich 1.3.1 (Hssayeni et al., Data 2020, doi:10.3390/data5010014): trauma patients, binary masks.

ct_scans/NNN.nii and masks/NNN.nii (0 and 255), hemorrhage_diagnosis_raw_ct.csv with the types on each slice and
Patient_demographics.csv. The mask of a patient with one type is of that type, of one with several of unknown type.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.manifest import split_of
from training.data.table import read_table

_TYPE_OF = {
    "intraparenchymal": "IPH",
    "intraventricular": "IVH",
    "subarachnoid": "SAH",
    "subdural": "SDH",
    "epidural": "EDH",
}


def drafts(folder: Path) -> Iterator[dict[str, Any]]:
    """A draft for each scan."""
    types, ages = _types(folder), _ages(folder)
    for ct in sorted((folder / "ct_scans").glob("*.nii*")):
        number = ct.name.split(".")[0]
        patient, seen = f"ct-ich-{number}", types.get(number.lstrip("0"), set())
        yield {
            "patient": patient,
            "study": number,
            "ct": ct,
            "mask": folder / "masks" / ct.name,
            "label_map": {255: next(iter(seen)) if len(seen) == 1 else "any"},
            "age": ages.get(number.lstrip("0")),
            "source": "ct-ich",
            "licence": "PhysioNet Restricted Health Data License 1.5.0",
            "split": split_of(patient),
        }


def _types(folder: Path) -> dict[str, set[str]]:
    """Patient number without leading zeros -> the types on any of its slices."""
    found: dict[str, set[str]] = {}
    for line in read_table(folder / "hemorrhage_diagnosis_raw_ct.csv", ("patientnumber", *_TYPE_OF)):
        seen = {name for column, name in _TYPE_OF.items() if line.get(column) == "1"}
        found.setdefault((line["patientnumber"] or "").lstrip("0"), set()).update(seen)
    return found


def _ages(folder: Path) -> dict[str, str | None]:
    """Patient number without leading zeros -> years. The second line of the table still belongs to its header."""
    lines = read_table(folder / "Patient_demographics.csv", ("patient number", "age (years)"))
    return {number.lstrip("0"): line["age (years)"] for line in lines if (number := line["patient number"])}
