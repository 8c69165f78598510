"""A manifest row -> HU and labels, on the grid as acquired or on the grid that networks train on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ichnode.imaging.resample import CanonicalGrid, canonical_grid_for, to_canonical
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.skull import with_bone
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Volume
from training.data.dicom import series_in
from training.data.manifest import Row
from training.data.masks import Labels, labels_on
from training.data.nifti import nifti_volume


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One head CT on a canonical grid."""

    hu_dhw: FloatArray  # (z, y, x); -1024 where nothing was acquired
    labels_dhw: Labels  # (z, y, x); values of `manifest.LABEL_VALUES`
    grid: CanonicalGrid


def with_truth(rows: Sequence[Row], split: str | None) -> list[Row]:
    """Rows that have a mask, or are read as free of hemorrhage: those of `split`, or all that no training saw."""
    known = [row for row in rows if row.mask is not None or row.types == ()]
    return [row for row in known if (row.split == split if split else row.split != "train")]


def native(row: Row) -> tuple[Volume, Labels]:
    """HU and labels (slice, row, column) as acquired. Raises DataError, RefusedSeries and OSError."""
    volume = read_volume(series_in(row.ct)) if row.ct.is_dir() else nifti_volume(row.ct)
    return volume, labels_on(volume.grid, row)


def case(row: Row, spacing_mm: tuple[float, float, float], *, leveled: bool = False) -> Case:
    """HU, as networks see them, and labels on a canonical grid of `spacing_mm` (z, y, x) around everything acquired.

    `leveled`: tilted slices are, as the segmenter sees them. Raises as `native`.
    """
    volume, labels = native(row)
    acquired = volume.grid.leveled() if leveled else volume.grid
    grid = canonical_grid_for(acquired, spacing_mm)
    return Case(
        hu_dhw=to_canonical(with_bone(replace(volume, grid=acquired)), grid),
        labels_dhw=resampled(labels, acquired, grid),
        grid=grid,
    )


def resampled(labels: Labels, acquired: AcquisitionGrid, grid: CanonicalGrid) -> Labels:
    """Labels (z, y, x): the largest linear share among the labels, where those above 0 make up half and more."""
    result = np.zeros(grid.shape, np.uint8)
    total, largest = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    for value in (value for value in np.unique(labels) if value):
        mask = Volume(hu=(labels == value).astype(np.float32), grid=acquired)
        share = to_canonical(mask, grid).clip(0)
        total += share
        result[share > largest] = value
        np.maximum(largest, share, out=largest)
    result[total < 0.5] = 0
    return result
