"""Perez del Barrio (digital.csic.es 10261/275792): spontaneous hemorrhage with prognosis, GCS and age, without masks.

GOOD_PROGNOSIS/ and POOR_PROGNOSIS/ hold <id>_brain.nii.gz (without the skull) or <id>.nii.gz; CLINICAL_DATA_ICH.csv
has PatientID, GCS, Age and "Label (poor_prognosis)". GCS and age may lack.
"""

from collections.abc import Iterator
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
        images = folder / _FOLDERS.get(str(label), "")
        whole = images / f"{number}.nii.gz"
        yield {
            "patient": patient,
            "study": number,
            "ct": whole if whole.exists() else images / f"{number}_brain.nii.gz",
            "age": line.get("age"),
            "gcs": line.get("gcs"),
            "outcome": {"type": "poor_prognosis", "value": label},
            "source": "perez",
            "licence": "on request",
            "split": split_of(patient),
        }
