"""Cells: the fine voxels of one axis, averaged over wider cells, as a scanner does for a thick slice.

To pick some of the voxels instead would keep their noise and alias.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ichnode.imaging.volume import FloatArray

SEVERAL = 1.5  # from this many voxels in a cell they are averaged

Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Evenly spaced cells along an axis."""

    places: Vectors  # (cell,): index of each centre on the axis
    shares: csr_array  # (cell, voxel), float32: of each voxel in each cell, sum 1 for a cell

    def averaged(self, hu: FloatArray, axis: int) -> FloatArray:
        """(slice, row, column) with the cells in place of the voxels along `axis`."""
        if axis == 0:
            return np.asarray(self.shares @ hu.reshape(len(hu), -1)).reshape(-1, *hu.shape[1:])
        return np.stack([self.shares @ plane if axis == 1 else (self.shares @ plane.T).T for plane in hu])

    def index(self, voxel: Vectors) -> Vectors:
        """From index among the voxels to index among the cells; NaN where there is no voxel."""
        inside = (voxel >= -0.5) & (voxel <= self.shares.shape[1] - 0.5)
        return np.where(inside, np.interp(voxel, self.places, np.arange(len(self.places))), np.nan)


def cells_along(indices: Vectors, places_mm: Vectors, *, origin_mm: float, step_mm: float) -> Cells | None:
    """Cells of `step_mm`, one of them around `origin_mm`; None where not several voxels fit into one.

    `places_mm`, ascending, are those of the voxel `indices`, from the outer edge of the first to that of the last.
    A cell is the mean of as many linear samples as voxels fit into it, so a slope stays the slope that it is.
    """
    count = round(indices[-1] + 0.5)
    samples = step_mm * count / (places_mm[-1] - places_mm[0])
    first, last = np.ceil((places_mm[0] - origin_mm) / step_mm), np.floor((places_mm[-1] - origin_mm) / step_mm)
    if samples < SEVERAL or first > last:
        return None
    centres_mm = origin_mm + step_mm * np.arange(first, last + 1)
    within = (np.arange(round(samples)) + 0.5) / round(samples) - 0.5
    sampled = np.interp(centres_mm[:, None] + step_mm * within, places_mm, indices).clip(0, count - 1)
    linear = np.clip(1 - np.abs(sampled[:, :, None] - np.arange(count)), 0, None)
    shares = csr_array(linear.mean(axis=1).astype(np.float32))
    return Cells(places=np.interp(centres_mm, places_mm, indices), shares=shares)
