"""Patients as pages name them: shown or masked. Names are read from received files, and never kept in the ledger."""

from dataclasses import dataclass
from functools import lru_cache

from pydicom import dcmread

from ichnode.imaging.data_set import PYDICOM_ERRORS

_TAGS = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "SpecificCharacterSet"]
_REMEMBERED = 5000  # files; they never change


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What a page may show."""

    name: str
    about: tuple[str, ...] = ()  # sex, date of birth, ID and accession number, where they are shown
    patient_id: str = ""  # to search by; shown only where `about` has it
    accession_number: str = ""


UNKNOWN = Patient(name="patient not known here")


class Patients:
    """Reads who a file is of. One for all pages: what one page read, the others know."""

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        self._read = lru_cache(maxsize=_REMEMBERED)(_read)

    def of(self, file: str | None) -> Patient:
        """The patient of a received file; UNKNOWN where that was purged, or cannot be read now."""
        if not file:
            return UNKNOWN
        try:
            found = self._read(file)  # what it raises is not remembered
        except (OSError, *PYDICOM_ERRORS):
            return UNKNOWN
        if self.shown:
            return found
        masked = " ".join(f"{part[0]}***" for part in found.name.replace(",", " ").split())
        return Patient(name=masked or "no name", patient_id=found.patient_id, accession_number=found.accession_number)


def _read(file: str) -> Patient:
    header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=_TAGS)
    name, born = header.get("PatientName", ""), str(header.get("PatientBirthDate") or "")
    parts = (getattr(name, "family_name", ""), getattr(name, "given_name", ""))
    known = {
        "": str(header.get("PatientSex") or ""),
        "born ": f"{born[:4]}-{born[4:6]}-{born[6:]}" if len(born) == 8 and born.isdigit() else born,
        "ID ": (patient_id := str(header.get("PatientID") or "")),
        "accession ": (accession := str(header.get("AccessionNumber") or "")),
    }
    return Patient(
        name=", ".join(filter(None, parts)) or str(name) or "no name",
        about=tuple(label + value for label, value in known.items() if value),
        patient_id=patient_id,
        accession_number=accession,
    )
