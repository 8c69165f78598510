"""NIfTI files as volumes and masks on an acquisition grid.

NIfTI counts in RAS millimetres along any axes. Here axes are turned and flipped, never resampled, until columns run
left, rows posterior and slices cranial, as an axial CT has them, and the affine becomes LPS. A sheared affine, as
converters write for a tilted gantry, is kept as slice origins that wander.
"""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from ichnode.domain.identity import derived_uid
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Volume
from training.data.manifest import DataError

_RIGHT_ANGLE = 1e-3
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti_volume(path: Path) -> Volume:
    """HU as stored. Raises DataError and OSError."""
    values, grid = nifti_values(path)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: holds values that are not numbers")
    return Volume(hu=values, grid=grid)


def nifti_values(path: Path) -> tuple[FloatArray, AcquisitionGrid]:
    """(slice, row, column) values and where they are. SOP Instance UIDs are made up. Raises DataError and OSError."""
    image, turn = _opened(path)
    try:
        stored = np.asarray(image.dataobj, np.float32)
    except (EOFError, zlib.error, ValueError, TypeError) as problem:  # TypeError: voxels of several numbers, as colours
        raise DataError(f"{path}: cannot be read: {problem}") from problem
    values = apply_orientation(stored, turn).transpose(2, 1, 0)
    return np.ascontiguousarray(values), _grid(path, image, turn)


def _opened(path: Path) -> tuple[nib.Nifti1Image, NDArray[np.float64]]:
    """The file, and how its axes turn into left, posterior, superior."""
    try:
        image = nib.squeeze_image(nib.load(path))
    except (ImageFileError, HeaderDataError, EOFError, zlib.error) as problem:
        raise DataError(f"{path}: is not NIfTI: {problem}") from problem
    if not isinstance(image, nib.Nifti1Image) or len(image.shape) != 3 or sorted(image.shape)[1] < 2:
        raise DataError(f"{path}: is not a NIfTI volume, but {image.shape}")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine)) < 1e-6:
        raise DataError(f"{path}: its affine spans no space")
    return image, ornt_transform(io_orientation(image.affine), axcodes2ornt(("L", "P", "S")))


def _grid(path: Path, image: nib.Nifti1Image, turn: NDArray[np.float64]) -> AcquisitionGrid:
    lps = _LPS_FROM_RAS @ image.affine @ inv_ornt_aff(turn, image.shape)
    along_row, along_column, slice_step, origin = lps[:3].T
    column_mm, row_mm = float(np.linalg.norm(along_row)), float(np.linalg.norm(along_column))
    row_direction, column_direction = along_row / column_mm, along_column / row_mm
    if abs(row_direction @ column_direction) > _RIGHT_ANGLE:
        raise DataError(f"{path}: rows and columns are not at right angles")
    height_mm = float(np.cross(row_direction, column_direction) @ slice_step)
    if height_mm <= 0:
        raise DataError(f"{path}: slices do not stack along their normal")
    columns, rows, count = (image.shape[int(np.flatnonzero(turn[:, 0] == axis)[0])] for axis in range(3))
    return AcquisitionGrid(
        rows=rows,
        columns=columns,
        positions_lps=origin + np.arange(count)[:, None] * slice_step,
        row_direction_lps=row_direction,
        column_direction_lps=column_direction,
        pixel_spacing_mm=(row_mm, column_mm),
        slice_thickness_mm=np.full(count, height_mm),
        sop_instance_uids=tuple(derived_uid("nifti", path.name, str(index)) for index in range(count)),
        frame_numbers=(1,) * count,
    )
