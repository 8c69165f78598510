"""NIfTI: a simulated CT and its labels as files, in RAS millimetres; a tilted gantry shows as a sheared affine."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ichnode.imaging.volume import AcquisitionGrid

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_nifti(values: NDArray[np.int16] | NDArray[np.uint8], grid: AcquisitionGrid, file: Path) -> None:
    """(slice, row, column) values on evenly spaced slices of `grid`. Same values, same bytes."""
    affine = np.eye(4)
    affine[:3, 0] = grid.row_direction_lps * grid.pixel_spacing_mm[1]
    affine[:3, 1] = grid.column_direction_lps * grid.pixel_spacing_mm[0]
    affine[:3, 2] = grid.positions_lps[1] - grid.positions_lps[0]
    affine[:3, 3] = grid.positions_lps[0]
    image = nib.Nifti1Image(values.transpose(2, 1, 0), _RAS_FROM_LPS @ affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, file)
