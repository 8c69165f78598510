"""Skull: bone that a display window left as white as blood, made dense again for networks to read.

In a window of 80 HU bone and the densest blood are both white. Networks have learned heads with bone in them, and take
what lies along a white skull, or the skull itself, for blood. What is shown to people stays as it came.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ichnode.imaging.volume import FloatArray, Volume

_BONE_SHOWS_HU = 300.0  # where anything is so dense nothing is taken for clipped
_BLACK_HU = -100.0  # the darkest gray that is looked at
_LEAST_WHITE_HU = 55.0  # the brightest of a brain without skull is darker
_BRIGHTEST = 0.03  # share of what is not black; of a head with a skull at least so much is white
_NEARLY_WHITE, _QUITE_WHITE = 0.94, 0.98  # grays from 0 to 1: noise, ringing of JPEG
_SMOOTHED_MM = 0.8  # blood that is white here and there is not white as a whole
_SKULL_MM = 80.0  # least length and width; of blood no part has both
_ALL_OVER = 0.9  # share of a part that is quite white
_AROUND_MM = (1.5, 3.5)
_DARK = 0.42  # gray; around blood there is more of it, or brain
_HU_PER_MM = 350.0  # from the edge of the bone inwards
_EDGE_MM = 2.5
_STEP = 4  # every so many rows and columns are enough to look at


def with_bone(volume: Volume) -> Volume:
    """`volume` as networks are to see it."""
    return replace(volume, hu=with_dense_skull(volume.hu, volume.grid.pixel_spacing_mm))


def with_dense_skull(hu: FloatArray, pixel_spacing_mm: tuple[float, float]) -> FloatArray:
    """`hu` (slice, row, column) with clipped bone up to 875 HU denser; the same array where no skull is clipped.

    The skull is the largest connected part that is white. Of the others those are bone, or calcified, that are white
    all over, with something dark around. Blood that touches the skull and is white as a whole is lost.
    """
    if float(hu.max()) >= _BONE_SHOWS_HU:
        return hu
    black_hu = max(float(hu.min()), _BLACK_HU)
    white_hu = _white_hu(hu[:, ::_STEP, ::_STEP], black_hu)
    if white_hu < _LEAST_WHITE_HU:
        return hu
    gray = (hu - black_hu) / (white_hu - black_hu)
    smooth = ndimage.gaussian_filter(gray, (0, *(_SMOOTHED_MM / step for step in pixel_spacing_mm)))
    parts, count = ndimage.label(smooth >= _NEARLY_WHITE, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=2)
    sizes[0] = 0
    skull = parts == sizes.argmax()
    rows, columns = skull.any(axis=(0, 2)).sum(), skull.any(axis=(0, 1)).sum()
    if not count or min(rows * pixel_spacing_mm[0], columns * pixel_spacing_mm[1]) < _SKULL_MM:
        return hu
    white = np.bincount(parts[gray >= _QUITE_WHITE], minlength=len(sizes))
    is_bone = (white >= _ALL_OVER * sizes) & (_gray_around(parts, gray, pixel_spacing_mm) <= _DARK)
    is_bone[0], is_bone[sizes.argmax()] = False, True
    dense = hu.copy()
    for plane, bone in zip(dense, is_bone[parts], strict=True):
        inwards_mm = ndimage.distance_transform_edt(bone, pixel_spacing_mm)[bone]
        plane[bone] = white_hu + _HU_PER_MM * inwards_mm.clip(max=_EDGE_MM)
    return dense


def _white_hu(hu: FloatArray, black_hu: float) -> float:
    """The brightest gray, but for what was added to it."""
    shown = hu[hu > black_hu]
    return float(np.quantile(shown, 1 - _BRIGHTEST)) if len(shown) else black_hu


def _gray_around(
    parts: NDArray[np.int32], gray: FloatArray, pixel_spacing_mm: tuple[float, float]
) -> NDArray[np.float64]:
    """The mean beside each part, from number 0 on."""
    total, count = np.zeros((2, parts.max() + 1))
    for part, plane in zip(parts, gray, strict=True):
        if not part.any():
            continue
        away_mm, nearest = ndimage.distance_transform_edt(part == 0, pixel_spacing_mm, return_indices=True)
        beside = (away_mm > _AROUND_MM[0]) & (away_mm <= _AROUND_MM[1])
        number = part[tuple(nearest)][beside]
        total += np.bincount(number, plane[beside], minlength=len(total))
        count += np.bincount(number, minlength=len(total))
    return np.asarray(total / count.clip(min=1))
