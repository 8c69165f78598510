"""Which slices of a series stand for it in an Image Library, an outline or a page."""

import numpy as np
from numpy.typing import NDArray

from ichnode.imaging.volume import Mask


def slice_areas(mask: Mask) -> NDArray[np.int64]:
    """(slice,): pixels inside a (slice, row, column) mask."""
    return np.array([np.count_nonzero(pixels) for pixels in mask])  # slice by slice is ten times as fast as by axis


def largest_slice_index(mask: Mask) -> int:
    """The slice of a (slice, row, column) mask with the largest area; the middle slice where it is empty."""
    areas = slice_areas(mask)
    return int(np.argmax(areas)) if areas.any() else len(mask) // 2


def key_slice_indices(mask: Mask) -> tuple[int, ...]:
    """Lowest, largest and highest slice of a (slice, row, column) mask; the middle slice where it is empty."""
    filled = np.flatnonzero(slice_areas(mask))
    ends = (int(filled[0]), int(filled[-1])) if len(filled) else ()
    return tuple(sorted({*ends, largest_slice_index(mask)}))


def page_slice_indices(mask: Mask) -> tuple[int, int, int]:
    """The largest slice of a (slice, row, column) mask, and one below and one above, half-way to its ends.

    Where the mask is empty, the middle slice and those a sixth of the series away.
    """
    largest, last = largest_slice_index(mask), len(mask) - 1
    filled = np.flatnonzero(slice_areas(mask))
    if len(filled) == 0:
        below, above = largest - len(mask) // 6, largest + len(mask) // 6
    else:
        below = min((largest + int(filled[0])) // 2, largest - 1)
        above = max((largest + int(filled[-1]) + 1) // 2, largest + 1)
    return largest, max(below, 0), min(above, last)
