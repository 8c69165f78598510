"""RSNA 2019 slices (Flanders et al. 2020, doi:10.1148/ryai.2020190211): whose they are, and a scan from its slices."""

import re
from pathlib import Path

import numpy as np
import SimpleITK
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from training.data.manifest import DataError

_HEADER = ["SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient"]


def patient_of(name: str) -> str:
    """The patient in a name that begins with an RSNA PatientID; the same for every data set made from RSNA."""
    found = re.match(r"ID_([0-9a-f]{8})(?![0-9a-f])", name)
    return f"rsna-{found[1]}" if found else f"rsna-{name}"


def write_scan(slices: list[Path], target: Path) -> None:
    """One series as NIfTI in HU, slices by position. Raises DataError and OSError.

    SimpleITK reads it, as it did for those who drew the HemSeg masks, so that both have one grid. RSNA headers lack
    what the daemon's reader demands: frame of reference, slice thickness, valid UIDs.
    """
    placed, series = [], set()
    for file in slices:
        try:
            header = dcmread(file, stop_before_pixels=True, specific_tags=_HEADER)
            row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            placed.append((float(np.cross(row, column) @ np.array(header.ImagePositionPatient, float)), str(file)))
            series.add(header.SeriesInstanceUID)
        except (InvalidDicomError, AttributeError, ValueError) as problem:
            raise DataError(f"{file}: {problem}") from problem
    if len(series) != 1:
        raise DataError(f"{target.name}: its slices are of {len(series)} series")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([file for _, file in sorted(placed)])
    try:
        image = reader.Execute()
    except RuntimeError as problem:
        raise DataError(f"{target.name}: {problem}") from problem
    target.parent.mkdir(parents=True, exist_ok=True)
    writing = target.with_name(f"writing-{target.name}")
    SimpleITK.WriteImage(image, str(writing))
    writing.replace(target)
