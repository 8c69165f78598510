"""Acquisition grid <-> canonical grid: axis-aligned, evenly spaced, the grid that models read. Both ways linear.

The canonical axes run with the patient, as LPS does: z cranial, y posterior, x left. A place between two slices is
interpolated between these, its slice origin too, so that gantry tilt and uneven gaps come out straight. The end slices
reach half a gap outwards, where they are repeated; so do the outermost pixels. A single slice reaches half its
thickness.

Slices or pixels of which several fit into a canonical voxel are averaged first (`cells`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ichnode.imaging.cells import Cells, cells_along
from ichnode.imaging.interpolate import interpolate
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask, Volume

OUTSIDE_HU = -1024.0
_SLAB_VOXELS = 1 << 18  # few enough for their coordinates to stay in the processor's cache

Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalGrid:
    """Voxel (k, j, i) is centred at origin + (i, j, k) * spacing, in LPS mm."""

    shape: tuple[int, int, int]  # (z, y, x)
    spacing_mm: tuple[float, float, float]  # (z, y, x)
    origin_lps: tuple[float, float, float]  # (x, y, z): centre of the first voxel


def canonical_grid_for(grid: AcquisitionGrid, spacing_mm: tuple[float, float, float]) -> CanonicalGrid:
    """The box around everything acquired, to the edges of slices and pixels. `spacing_mm` is (z, y, x)."""
    _, ends = _knots(grid)
    rows, columns = (-0.5, grid.rows - 0.5), (-0.5, grid.columns - 0.5)
    down, across = _pixel_steps(grid)
    corners = np.array([end + r * down + c * across for end in (ends[0], ends[-1]) for r in rows for c in columns])
    low, high = corners.min(axis=0), corners.max(axis=0)
    spacing = np.array(spacing_mm[::-1])
    count = np.ceil((high - low) / spacing - 1e-6).astype(int)
    x, y, z = (low + high - (count - 1) * spacing) / 2
    return CanonicalGrid(
        shape=(int(count[2]), int(count[1]), int(count[0])),
        spacing_mm=spacing_mm,
        origin_lps=(float(x), float(y), float(z)),
    )


def half_a_voxel_off(grid: CanonicalGrid) -> CanonicalGrid:
    """The voxels that lie between those of `grid`, one more along each axis, to cover the same box."""
    x, y, z = (start - step / 2 for start, step in zip(grid.origin_lps, grid.spacing_mm[::-1], strict=True))
    depth, height, width = (count + 1 for count in grid.shape)
    return replace(grid, shape=(depth, height, width), origin_lps=(x, y, z))


def to_canonical(volume: Volume, canonical: CanonicalGrid) -> FloatArray:
    """HU on the canonical grid, (z, y, x); -1024 where nothing was acquired."""
    out = np.empty(canonical.shape, np.float32)
    fine = _fine_axes(volume.grid, canonical)
    hu = volume.hu
    for axis, cells in fine.items():
        hu = cells.averaged(hu, axis)
    z, y, x = _axes(canonical)
    planes = max(1, _SLAB_VOXELS // (len(y) * len(x)))
    for first in range(0, len(z), planes):
        slab = slice(first, first + planes)
        world = (x[None, None, :], y[None, :, None], z[slab, None, None])
        indices = _acquisition_indices(volume.grid, world)
        for axis, cells in fine.items():
            indices[axis] = cells.index(indices[axis])
        interpolate(hu, indices, OUTSIDE_HU, out[slab])
    return out


def to_acquisition(values: FloatArray | Mask, canonical: CanonicalGrid, grid: AcquisitionGrid) -> FloatArray:
    """Canonical `values` (z, y, x) on the acquisition grid, (slice, row, column); 0 outside.

    Works on the box around the nonzero values only, so a small finding in a series of many slices costs little.
    """
    out = np.zeros(grid.shape, np.float32)
    box = _nonzero_box(values, canonical)
    if box is None:
        return out
    values = np.asarray(values, np.float32)
    for index in range(len(out)):
        rows, columns = _window(grid, index, box)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        r, c = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)[None, :]
        interpolate(values, _canonical_indices(grid, index, r, c, canonical), 0.0, out[index, rows, columns])
    return out


def warped(
    images: Sequence[FloatArray], grid: AcquisitionGrid, canonical: CanonicalGrid, displacement_mm: FloatArray
) -> list[FloatArray]:
    """`images` (slice, row, column), each voxel read so far from its place; untouched where the displacement is 0.

    Beyond the edge the nearest voxel is read. `displacement_mm` is (x y z, z, y, x), LPS mm on the canonical grid.
    """
    out = [image.copy() for image in images]
    box = _nonzero_box(np.asarray(displacement_mm.any(axis=0)), canonical)
    if box is None:
        return out
    for index in range(grid.shape[0]):
        rows, columns = _window(grid, index, box)
        r, c = (each.ravel() for each in np.mgrid[rows, columns])
        if not len(r):
            continue
        further = _at(displacement_mm, _canonical_indices(grid, index, r, c, canonical), len(r))
        moves = further.any(axis=0)
        r, c, further = r[moves], c[moves], further[:, moves]
        places = _world(grid, index, r, c)
        x, y, z = (place + step for place, step in zip(places, further, strict=True))
        indices = _acquisition_indices(grid, (x, y, z), beyond=True)
        indices = [index.clip(0, size - 1) for index, size in zip(indices, grid.shape, strict=True)]
        for image, moved in zip(images, out, strict=True):
            moved[index, r, c] = _at(image[None], indices, len(r))[0]
    return out


def highest_class(
    looks: Sequence[tuple[CanonicalGrid, FloatArray]], grid: AcquisitionGrid, where: Mask
) -> NDArray[np.uint8]:
    """1 + the index of the largest class at the voxels `where`, elsewhere 0; both are (slice, row, column).

    A look holds values (class, z, y, x) on a canonical grid; those of all looks are added.
    """
    out = np.zeros(grid.shape, np.uint8)
    for index, wanted in enumerate(where):
        r, c = np.nonzero(wanted)
        found = sum(_at(each, _canonical_indices(grid, index, r, c, canonical), len(r)) for canonical, each in looks)
        out[index, r, c] = 1 + np.argmax(found, axis=0)
    return out


def _at(by_class: FloatArray, indices: list[Vectors], count: int) -> FloatArray:
    """Values (class, z, y, x) at `count` places, (class, place). Indices broadcast."""
    found = np.empty((len(by_class), count), np.float32)
    for values, at in zip(by_class, found, strict=True):
        interpolate(values, indices, 0.0, at)
    return found


def _canonical_indices(
    grid: AcquisitionGrid, index: int, rows: NDArray[np.intp], columns: NDArray[np.intp], canonical: CanonicalGrid
) -> list[Vectors]:
    """Canonical (z, y, x) of pixels of slice `index`; rows and columns broadcast."""
    steps = zip(_world(grid, index, rows, columns)[::-1], canonical.origin_lps[::-1], canonical.spacing_mm, strict=True)
    return [(place - origin) / spacing for place, origin, spacing in steps]


def _world(grid: AcquisitionGrid, index: int, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[Vectors]:
    """LPS x, y and z of pixels of slice `index`; rows and columns broadcast."""
    down, across = _pixel_steps(grid)
    position = grid.positions_lps[index]
    return [np.asarray(position[a] + _scaled(rows, down[a]) + _scaled(columns, across[a])) for a in range(3)]


def _fine_axes(grid: AcquisitionGrid, canonical: CanonicalGrid) -> dict[int, Cells]:
    """Cells for those of the axes slice, row and column of which several voxels fit into a canonical one.

    They lie on the canonical voxels where the axes are parallel.
    """
    knots, origins = _knots(grid)
    lines = [(knots, origins @ grid.normal_lps, grid.normal_lps)]
    for direction, size, spacing in zip(
        (grid.column_direction_lps, grid.row_direction_lps), grid.shape[1:], grid.pixel_spacing_mm, strict=True
    ):
        ends = np.array([-0.5, size - 0.5])
        lines.append((ends, grid.positions_lps[0] @ direction + ends * spacing, direction))
    found = {}
    for axis, (indices, places_mm, direction) in enumerate(lines):
        step_mm = canonical.spacing_mm[::-1][int(np.abs(direction).argmax())]
        origin_mm = float(np.array(canonical.origin_lps) @ direction)
        cells = cells_along(indices, places_mm, origin_mm=origin_mm, step_mm=step_mm)
        if cells is not None:
            found[axis] = cells
    return found


def _axes(canonical: CanonicalGrid) -> tuple[Vectors, Vectors, Vectors]:
    """Centres of the voxels along z, y and x, mm."""
    origin = canonical.origin_lps[::-1]
    steps = zip(origin, canonical.spacing_mm, canonical.shape, strict=True)
    z, y, x = (start + step * np.arange(count, dtype=np.float64) for start, step, count in steps)
    return z, y, x


def _pixel_steps(grid: AcquisitionGrid) -> tuple[Vectors, Vectors]:
    """From one row to the next, and from one column to the next, LPS mm."""
    return (
        grid.column_direction_lps * grid.pixel_spacing_mm[0],
        grid.row_direction_lps * grid.pixel_spacing_mm[1],
    )


def _knots(grid: AcquisitionGrid) -> tuple[Vectors, Vectors]:
    """Slice indices with half a slice added at both ends, and the slice origins there, (slice + 2, 3)."""
    count = grid.shape[0]
    gaps = np.diff(grid.positions_lps, axis=0) if count > 1 else grid.slice_extents_mm[:, None] * grid.normal_lps
    below, above = grid.positions_lps[0] - gaps[0] / 2, grid.positions_lps[-1] + gaps[-1] / 2
    return np.array([-0.5, *range(count), count - 0.5]), np.vstack([below, grid.positions_lps, above])


def _scaled(axis: NDArray[np.float64 | np.intp], factor: float) -> Vectors | float:
    """`axis * factor`, but a plain 0 for no factor: what does not vary along an axis is not spread over it."""
    return np.multiply(axis, factor, dtype=np.float64) if factor else 0.0


def _acquisition_indices(
    grid: AcquisitionGrid, world: tuple[Vectors, Vectors, Vectors], *, beyond: bool = False
) -> list[Vectors]:
    """(slice, row, column) of places given as x, y and z that broadcast; beyond the end slices NaN, or the end."""
    knots, origins = _knots(grid)

    def along(direction: Vectors, places: tuple[Vectors | float, ...]) -> Vectors:
        return np.asarray(sum(_scaled(np.asarray(p), d) for p, d in zip(places, direction, strict=True)))

    offsets = along(grid.normal_lps, world)
    ends = (knots[0], knots[-1]) if beyond else (np.nan, np.nan)
    slices = np.interp(offsets, origins @ grid.normal_lps, knots, left=ends[0], right=ends[1])
    relative = tuple(
        place - (np.interp(slices, knots, origin) if np.ptp(origin) else origin[0])
        for place, origin in zip(world, origins.T, strict=True)
    )
    rows = along(grid.column_direction_lps, relative) / grid.pixel_spacing_mm[0]
    return [slices, rows, along(grid.row_direction_lps, relative) / grid.pixel_spacing_mm[1]]


def _nonzero_box(values: FloatArray | Mask, canonical: CanonicalGrid) -> Vectors | None:
    """The eight corners, LPS mm, of the box that the nonzero values reach; None when there are none."""
    limits = []
    for axis, centres in enumerate(_axes(canonical)):
        used = np.flatnonzero(values.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(used):
            return None
        step = canonical.spacing_mm[axis]
        limits.append((centres[used[0]] - step, centres[used[-1]] + step))
    z, y, x = limits
    return np.array([(cx, cy, cz) for cx in x for cy in y for cz in z])


def _window(grid: AcquisitionGrid, index: int, box: Vectors) -> tuple[slice, slice]:
    """Rows and columns of a slice that can lie in `box`; empty where the slice passes it by."""
    relative = box - grid.positions_lps[index]
    heights = relative @ grid.normal_lps
    if heights.min() > 0 or heights.max() < 0:
        return slice(0, 0), slice(0, 0)
    directions = ((grid.column_direction_lps, grid.rows), (grid.row_direction_lps, grid.columns))
    windows = []
    for (direction, size), spacing in zip(directions, grid.pixel_spacing_mm, strict=True):
        reach = relative @ direction / spacing
        windows.append(slice(max(0, int(np.floor(reach.min()))), min(size, int(np.ceil(reach.max())) + 1)))
    return windows[0], windows[1]
