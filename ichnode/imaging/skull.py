"""Skull: bone that a display window left as white as blood, made dense again for networks to read.

In a window of 80 HU bone and the densest blood are both white. Networks have learned heads with bone in them, and take
what lies along a white skull, or the skull itself, for blood. What is shown to people stays as it came.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ichnode.imaging.volume import FloatArray, Mask, Volume

_BONE_SHOWS_HU = 300.0  # where anything is so dense nothing is taken for clipped
_BLACK_HU = -100.0  # the darkest gray that is looked at
_LEAST_WHITE_HU = 55.0  # the brightest of a brain without skull is darker
_BRIGHTEST = 0.03  # share of what is not black; of a head with a skull at least so much is white
_WHITE_SHARE = 0.06  # of the grays, from white down: noise, ringing of JPEG
_SMOOTHED_MM = 0.8  # blood that is white here and there is not white as a whole
_SKULL_MM = 80.0  # least length and width; of blood no part has both
_HU_PER_MM = 350.0  # from the edge of the bone inwards
_EDGE_MM = 2.5
_STEP = 4  # every so many rows and columns are enough to look at


def with_bone(volume: Volume) -> Volume:
    """`volume` as networks are to see it."""
    return replace(volume, hu=with_dense_skull(volume.hu, volume.grid.pixel_spacing_mm))


def with_dense_skull(hu: FloatArray, pixel_spacing_mm: tuple[float, float]) -> FloatArray:
    """`hu` (slice, row, column) with the clipped skull up to 875 HU denser; the same array where none is clipped.

    The skull is the largest connected part that is white. Blood that touches it and is white as a whole is lost.
    """
    if float(hu.max()) >= _BONE_SHOWS_HU:
        return hu
    black_hu = max(float(hu.min()), _BLACK_HU)
    white_hu = _white_hu(hu[:, ::_STEP, ::_STEP], black_hu)
    if white_hu < _LEAST_WHITE_HU:
        return hu
    smooth = ndimage.gaussian_filter(hu, (0, *(_SMOOTHED_MM / step for step in pixel_spacing_mm)))
    skull = _largest_part(smooth >= white_hu - _WHITE_SHARE * (white_hu - black_hu))
    rows, columns = skull.any(axis=(0, 2)).sum(), skull.any(axis=(0, 1)).sum()
    if min(rows * pixel_spacing_mm[0], columns * pixel_spacing_mm[1]) < _SKULL_MM:
        return hu
    dense = hu.copy()
    for plane, bone in zip(dense, skull, strict=True):
        inwards_mm = ndimage.distance_transform_edt(bone, pixel_spacing_mm)[bone]
        plane[bone] = white_hu + _HU_PER_MM * inwards_mm.clip(max=_EDGE_MM)
    return dense


def _white_hu(hu: FloatArray, black_hu: float) -> float:
    """The brightest gray, but for what was added to it."""
    shown = hu[hu > black_hu]
    return float(np.quantile(shown, 1 - _BRIGHTEST)) if len(shown) else black_hu


def _largest_part(mask: Mask) -> Mask:
    """None of it where nothing is set."""
    parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    return np.asarray(parts == 1 + sizes.argmax(), np.bool_)
