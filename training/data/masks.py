"""Masks as label volumes on the grid of their CT: NIfTI or DICOM Segmentation; another grid is refused."""

from pathlib import Path

import numpy as np
from highdicom.seg import Segmentation, segread
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from ichnode.imaging.volume import AcquisitionGrid
from training.data.manifest import LABEL_VALUES, UNKNOWN, DataError, Row
from training.data.nifti import nifti_values

Labels = NDArray[np.uint8]

SPACING_TOLERANCE_MM, DIRECTION_TOLERANCE, ORIGIN_TOLERANCE_MM = 0.01, 1e-3, 0.1
_MAX_VALUE = 255  # in a mask file


def labels_on(grid: AcquisitionGrid, row: Row) -> Labels:
    """(slice, row, column) values of `manifest.LABEL_VALUES`. Raises DataError and OSError.

    Without a mask nothing is known, except where the study was read as free of hemorrhage.
    """
    if row.mask is None or row.label_map is None:
        return np.full(grid.shape, 0 if row.types == () else UNKNOWN, np.uint8)
    is_nifti = row.mask.name.endswith((".nii", ".nii.gz"))
    values = _nifti(row.mask, grid) if is_nifti else _segmentation(row.mask, grid)
    meanings = {0: "none", **row.label_map}
    unnamed = sorted(set(np.unique(values).tolist()) - set(meanings))
    if unnamed:
        raise DataError(f"{row.mask}: label_map does not name the value {unnamed[0]:g}")
    table = np.zeros(_MAX_VALUE + 1, np.uint8)
    for value, meaning in meanings.items():
        table[value] = LABEL_VALUES[meaning]
    return table[values.astype(np.uint8)]


def mismatch(found: AcquisitionGrid, wanted: AcquisitionGrid) -> str | None:
    """What differs first between two grids: shape, spacing, direction or origin; None when they are the same."""
    if found.shape != wanted.shape:
        return f"shape: {found.shape} where the CT has {wanted.shape}"
    steps = [_steps(grid) for grid in (found, wanted)]
    gaps = [np.linalg.norm(step, axis=1) for step in steps]
    worst = int(abs(gaps[0] - gaps[1]).argmax())
    spacings = [np.array([*g.pixel_spacing_mm, gap[worst]]) for g, gap in zip((found, wanted), gaps, strict=True)]
    if abs(spacings[0] - spacings[1]).max() > SPACING_TOLERANCE_MM:
        return f"spacing: {_shown(spacings[0])} mm where the CT has {_shown(spacings[1])} mm"
    axes = [
        np.stack([grid.row_direction_lps, grid.column_direction_lps, step[0] / gap[0]])
        for grid, step, gap in zip((found, wanted), steps, gaps, strict=True)
    ]
    if abs(axes[0] - axes[1]).max() > DIRECTION_TOLERANCE:
        return f"direction: {_shown(axes[0].ravel())} where the CT has {_shown(axes[1].ravel())}"
    origins = found.positions_lps[0], wanted.positions_lps[0]
    if abs(origins[0] - origins[1]).max() > ORIGIN_TOLERANCE_MM:
        return f"origin: {_shown(origins[0])} mm where the CT has {_shown(origins[1])} mm"
    return None


def _steps(grid: AcquisitionGrid) -> NDArray[np.float64]:
    """(gap, 3) LPS mm from each slice to the next; through the slice where there is one alone."""
    alone = (grid.normal_lps * grid.slice_thickness_mm[0])[None]
    return np.diff(grid.positions_lps, axis=0) if len(grid.positions_lps) > 1 else alone


def _shown(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _nifti(path: Path, grid: AcquisitionGrid) -> NDArray[np.float32]:
    values, own = nifti_values(path)
    difference = mismatch(own, grid)
    if difference:
        raise DataError(f"{path}: {difference}")
    if not np.array_equal(values, np.clip(np.rint(values), 0, _MAX_VALUE)):
        raise DataError(f"{path}: values are not whole numbers from 0 to {_MAX_VALUE}")
    return values


def _segmentation(path: Path, grid: AcquisitionGrid) -> NDArray[np.uint8]:
    """Segment numbers; where segments overlap the highest. The segmentation must refer to slices of the CT."""
    try:
        segmentation = segread(path)
        _check_frames(segmentation, path, grid)
        values = segmentation.get_pixels_by_source_instance(
            grid.sop_instance_uids,
            combine_segments=True,
            ignore_spatial_locations=True,  # the place of every frame has just been checked
            assert_missing_frames_are_empty=True,
            skip_overlap_checks=True,
            dtype=np.uint8,
        )
    except (InvalidDicomError, AttributeError, KeyError, ValueError, RuntimeError) as problem:
        raise DataError(f"{path}: is not a DICOM Segmentation that can be read: {problem}") from problem
    return np.asarray(values)


def _check_frames(segmentation: Segmentation, path: Path, grid: AcquisitionGrid) -> None:
    """Refuse frames that are not where the slice is that they refer to. Raises DataError; AttributeError for groups
    that are missing.
    """
    size = (segmentation.Rows, segmentation.Columns)
    if size != (grid.rows, grid.columns):
        raise DataError(f"{path}: shape: {size} where the CT has {(grid.rows, grid.columns)}")
    if not {sop for *_, sop in segmentation.get_source_image_uids()} <= set(grid.sop_instance_uids):
        raise DataError(f"{path}: refers to instances that are not of the CT")
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    if abs(spacing - grid.pixel_spacing_mm).max() > SPACING_TOLERANCE_MM:
        wanted = _shown(np.array(grid.pixel_spacing_mm))
        raise DataError(f"{path}: spacing: {_shown(spacing)} mm where the CT has {wanted} mm")
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    if abs(cosines - np.concatenate([grid.row_direction_lps, grid.column_direction_lps])).max() > DIRECTION_TOLERANCE:
        raise DataError(f"{path}: direction: {_shown(cosines)} is not that of the CT")
    place = dict(zip(grid.sop_instance_uids, grid.positions_lps, strict=True))
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        if abs(place[source] - position).max() > ORIGIN_TOLERANCE_MM:
            raise DataError(f"{path}: origin: {_shown(position)} mm is not that of the slice it refers to")
