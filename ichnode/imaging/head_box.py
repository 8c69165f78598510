"""Head box: the part of a volume that holds the head, without table, head holder and most of the air.

Networks normalise each head by its own mean and variance, so they must see about the same share of air in training and
at work, whatever the field of view (docs/decisions 22).
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ichnode.imaging.hu_range import air_up_to
from ichnode.imaging.resample import OUTSIDE_HU, CanonicalGrid
from ichnode.imaging.volume import FloatArray

_AIR_MM = 4.0  # kept around the head
_THIN_MM = 10.0  # what is thinner within its plane is a head holder, a tube or an ear
_TALLEST_MM = 190.0  # from the vertex down; below lies the neck, and shoulders that would widen the box
_LARGE = 0.1  # share of the largest part, from which a part belongs to the head: few slices may show it in parts

Box = tuple[slice, slice, slice]  # z, y, x
Shape = tuple[int, int, int]


def head_box(hu_dhw: FloatArray, spacing_mm: tuple[float, float, float]) -> Box:
    """Where the head lies on an axis-aligned grid, and a little air; all where there is no head. mm: z, y, x."""
    lowest_hu = hu_dhw.min(initial=np.inf, where=hu_dhw > OUTSIDE_HU)
    dense = (hu_dhw > air_up_to(float(lowest_hu))).astype(np.uint8)
    width = [1 + 2 * round(_THIN_MM / 2 / spacing) for spacing in spacing_mm[1:]]
    parts, count = ndimage.label(ndimage.grey_opening(dense, (1, *width), mode="constant"))
    if not count:
        return slice(0, dense.shape[0]), slice(0, dense.shape[1]), slice(0, dense.shape[2])
    sizes = np.bincount(parts.ravel())[1:]
    head = np.isin(parts, np.flatnonzero(sizes >= _LARGE * sizes.max()) + 1)
    vertex = int(np.flatnonzero(head.any(axis=(1, 2)))[-1])
    head[: max(0, vertex + 1 - round(_TALLEST_MM / spacing_mm[0]))] = False
    z, y, x = (
        slice(max(0, part.start - air), min(size, part.stop + air))
        for part, air, size in zip(
            ndimage.find_objects(head.astype(np.uint8))[0],
            (max(1, round(_AIR_MM / spacing)) for spacing in spacing_mm),
            head.shape,
            strict=True,
        )
    )
    return z, y, x


def first_in_the_middle(box: Box, shape: Shape) -> Shape:
    """The first voxel of the region of that shape in whose middle the box lies; below 0 it begins before the array.

    Of a box that is too tall the vertex is kept.
    """
    z, y, x = ((part.start + part.stop - size) // 2 for part, size in zip(box, shape, strict=True))
    return max(z, box[0].stop - shape[0]) if box[0].stop - box[0].start > shape[0] else z, y, x


def grid_in_the_middle(grid: CanonicalGrid, box: Box, shape: Shape) -> CanonicalGrid:
    """That region of `grid` as a grid."""
    first = first_in_the_middle(box, shape)
    steps = zip(grid.origin_lps, first[::-1], grid.spacing_mm[::-1], strict=True)
    x, y, z = (origin + start * step for origin, start, step in steps)
    return replace(grid, shape=shape, origin_lps=(x, y, z))
