"""A real head CT without hemorrhage, with a drawn hematoma: the only lie is the blood."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import dcmread

from ichnode.domain.identity import derived_uid

BLOOD_HU = 62.0
EDGE_MM = 1.0  # how softly the ellipsoid ends


def graft(
    files: Sequence[Path], folder: Path, *, centre_lps_mm: Sequence[float], axes_mm: Sequence[float]
) -> list[Path]:
    """Copies of `files` below `folder` with an ellipsoid of blood, as a study of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    written = []
    for number, file in enumerate(files, 1):
        dataset = dcmread(file)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        share = _share_of_blood(dataset, centre_lps_mm, axes_mm)
        blood = BLOOD_HU + rng.normal(0, 4, hu.shape)
        stored = (hu * (1 - share) + blood * share - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)
        dataset.PixelData = np.round(stored).astype(dataset.pixel_array.dtype).tobytes()
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            setattr(dataset, keyword, derived_uid("graft", dataset[keyword].value))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        target = folder / f"{number:03d}.dcm"
        dataset.save_as(target, enforce_file_format=True)
        written.append(target)
    return written


def _share_of_blood(dataset, centre_lps_mm, axes_mm):
    """(row, column): 1 inside the ellipsoid, 0 outside, a soft edge between."""
    rows, columns = np.indices((dataset.Rows, dataset.Columns))
    along_row, along_column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = map(float, dataset.PixelSpacing)
    origin = np.array(dataset.ImagePositionPatient, float)
    points = origin + columns[..., None] * column_mm * along_row + rows[..., None] * row_mm * along_column
    radius = np.linalg.norm((points - np.asarray(centre_lps_mm)) / np.asarray(axes_mm), axis=-1)
    return np.clip(0.5 + (1 - radius) * min(axes_mm) / (2 * EDGE_MM), 0, 1)
