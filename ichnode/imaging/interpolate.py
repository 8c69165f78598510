"""Interpolation between voxels: of whole rows at once where rows lie along rows, else of each voxel by itself."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ichnode.imaging.volume import FloatArray

_NOWHERE = -9.0  # an index outside every array

Vectors = NDArray[np.float64]


def interpolate(values: FloatArray, indices: Sequence[Vectors], outside: float, out: FloatArray) -> None:
    """Linear between voxels, nearest within half a voxel beyond the edge, `outside` elsewhere.

    `values` is (z, y, x); `indices` are places in it along these axes and broadcast to the shape of `out`. NaN lies
    outside.
    """
    within = [(index >= -0.5) & (index <= size - 0.5) for index, size in zip(indices, values.shape, strict=True)]
    if _rows_are_rows(indices):
        _interpolate_rows(values, indices, out)
        inside = np.broadcast_to(within[0] & within[1] & within[2], out.shape)
        out[~inside] = outside
        return
    coordinates = np.empty((3, *np.broadcast_shapes(*(i.shape for i in indices), out.shape)))
    for axis, (index, inside) in enumerate(zip(indices, within, strict=True)):
        coordinates[axis] = np.where(inside, np.clip(index, 0, values.shape[axis] - 1), _NOWHERE)
    ndimage.map_coordinates(values, coordinates.reshape(3, *out.shape), out, order=1, cval=outside, prefilter=False)


def _rows_are_rows(indices: Sequence[Vectors]) -> bool:
    """Whether each row of what is asked for lies along a row of the values, as it does without in-plane rotation."""
    *across, along = indices
    return all(index.shape[-1:] in ((), (1,)) for index in across) and along.shape[-1:] == (along.size,)


def _interpolate_rows(values: FloatArray, indices: Sequence[Vectors], out: FloatArray) -> None:
    """Linear between rows first, then between their columns; a twentieth of the time of each voxel by itself."""
    (z, z_next, z_share), (y, y_next, y_share), (x, x_next, x_share) = map(_neighbours, indices, values.shape)
    z, z_next, y, y_next = (each[..., 0] if each.ndim else each for each in (z, z_next, y, y_next))
    below = _between(values[z, y], values[z, y_next], y_share)
    above = _between(values[z_next, y], values[z_next, y_next], y_share)
    rows = _between(below, above, z_share)
    out[...] = _between(rows[..., x.ravel()], rows[..., x_next.ravel()], x_share)


def _neighbours(index: Vectors, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Of each index the voxel below, the one above, and how far it is from the first to the second."""
    clipped = np.nan_to_num(index).clip(0, size - 1)
    lower = np.asarray(clipped, np.intp)
    return lower, np.minimum(lower + 1, size - 1), np.asarray(clipped - lower, np.float32)


def _between(first: FloatArray, second: FloatArray, share: FloatArray) -> FloatArray:
    return first + share * (second - first)
