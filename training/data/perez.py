"""Perez del Barrio (digital.csic.es 10261/275792): spontaneous hemorrhage with prognosis, GCS and age, without masks.

GOOD_PROGNOSIS/ and POOR_PROGNOSIS/, below the folder or in ICH_nii_StrippedSkull/, hold <id>_brain.nii.gz (without the
skull) or <id>.nii.gz; CLINICAL_DATA_ICH.csv has PatientID, GCS, Age and "Label (poor_prognosis)". All but the first may
lack.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.data.manifest import split_of
from training.data.table import read_table

_LABEL = "label (poor_prognosis)"
_FOLDERS = {"0": "GOOD_PROGNOSIS", "1": "POOR_PROGNOSIS"}


def drafts(folder: Path) -> Iterator[dict[str, Any]]:
    """A draft for each line of the table."""
    for line in read_table(folder / "CLINICAL_DATA_ICH.csv", ("patientid", _LABEL)):
        number, label = line["patientid"], line[_LABEL]
        patient = f"perez-{number}"
        yield {
            "patient": patient,
            "study": number,
            "ct": _image(folder, [_FOLDERS[label]] if label in _FOLDERS else list(_FOLDERS.values()), number),
            "age": line.get("age"),
            "gcs": line.get("gcs"),
            "outcome": None if label is None else {"type": "poor_prognosis", "value": label},
            "source": "perez",
            "licence": "on request",
            "split": split_of(patient),
        }


def _image(folder: Path, outcomes: Sequence[str], number: Any) -> Path:
    """The whole head before the brain alone; where there is none, where the brain was looked for first."""
    sought = [
        root / outcome / name
        for name in (f"{number}.nii.gz", f"{number}_brain.nii.gz")
        for root in (folder, folder / "ICH_nii_StrippedSkull")
        for outcome in outcomes
    ]
    return next((path for path in sought if path.exists()), folder / outcomes[0] / f"{number}_brain.nii.gz")
