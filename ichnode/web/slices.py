"""Pictures of one slice: CT in a window, predicted CT, what differs between them, a segment's fill and outline. PNG.

Arrays are (row, column) as stored, not turned: what is left in the file is left in the picture.
"""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ichnode.imaging.pixels import read_hu
from ichnode.imaging.slices import Slice
from ichnode.imaging.volume import FloatArray, Mask
from ichnode.imaging.windows import BLOOD, BONE, BRAIN, Window, apply

WINDOWS = {"brain": BRAIN, "blood": BLOOD, "bone": BONE}
DIFFERENCE_HU = 40.0  # and beyond: the full colour
_DENSER, _LESS_DENSE = (255, 150, 30), (60, 150, 255)  # orange and blue, which nobody mistakes for each other
_DIMMED = 0.5  # the CT under the difference
_QUICK = {"compress_level": 1, "compress_type": zlib.Z_RLE}  # of a CT smaller than level 1 alone, in less time


def slice_hu(one: Slice) -> FloatArray:
    """HU of one slice (row, column), read from its own file alone. Raises RefusedSeries and OSError."""
    hu = np.empty((1, *one.shape), np.float32)
    read_hu([one], hu)
    return np.asarray(hu[0])


def gray_png(hu: FloatArray, window: Window) -> bytes:
    """A slice in a window."""
    return _encoded(Image.fromarray(apply(hu, window)))


def difference_png(predicted: FloatArray, source: FloatArray) -> bytes:
    """Where the predicted slice is denser (orange) or less dense (blue) than the source, over the dimmed source."""
    change = np.clip((predicted - source) / np.float32(DIFFERENCE_HU), -1, 1)[..., None]
    colour = np.where(change > 0, np.array(_DENSER, np.float32), np.array(_LESS_DENSE, np.float32))
    gray = apply(source, BRAIN)[..., None] * np.float32(_DIMMED)
    share = np.abs(change)
    return rgb_png(np.rint(gray * (1 - share) + colour * share).astype(np.uint8))


def rgb_png(pixels: NDArray[np.uint8]) -> bytes:
    """(row, column, RGB) as it is."""
    return _encoded(Image.fromarray(pixels))


def fill_png(mask: Mask, rgb: tuple[int, int, int]) -> bytes:
    """The mask in a colour, clear elsewhere."""
    painted = Image.fromarray(mask.astype(np.uint8))
    painted.putpalette((0, 0, 0, *rgb))
    return _encoded(painted, transparency=0, bits=1)


def outline_png(mask: Mask, rgb: tuple[int, int, int]) -> bytes:
    """A line around the mask in a colour, clear elsewhere."""
    return fill_png(outline(mask), rgb)


def outline(mask: Mask) -> Mask:
    """The pixels just outside the mask (row, column), also across corners: the line hides nothing of what it shows."""
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return (rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]) & ~mask


def _encoded(image: Image.Image, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "png", **_QUICK, **options)
    return buffer.getvalue()


class Pictures:
    """The pictures that were made last, up to so many bytes. None outlives the files that it was made from."""

    def __init__(self, max_bytes: int = 64_000_000) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, files: Iterable[str], make: Callable[[], bytes]) -> bytes:
        """The picture `key` of `files`, made now where it is not kept. Raises OSError where a file is gone."""
        there = [Path(file).stat().st_mtime_ns for file in files]
        full_key = (key, *there)
        with self._lock:
            if full_key in self._kept:
                self._kept.move_to_end(full_key)
                return self._kept[full_key]
        picture = make()
        with self._lock:
            self._bytes += len(picture) - len(self._kept.pop(full_key, b""))
            self._kept[full_key] = picture
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return picture
