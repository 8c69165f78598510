"""Skull: bone that a display window left as white as blood, made dense again for networks to read.

In a window of 80 HU bone and the densest blood are both white. Networks have learned heads with bone in them, and take
what lies along a white skull, or the skull itself, for blood. What is shown to people stays as it came.
"""

import numpy as np
from scipy import ndimage

from ichnode.imaging.volume import FloatArray

_BONE_SHOWS_HU = 300.0  # where anything is so dense nothing is taken for clipped
_BLACK_HU = -100.0  # the darkest gray that is looked at
_BRIGHTEST = 0.03  # share of what is not black; of a head with a skull at least so much is white
_WHITE_SHARE = 0.06  # of the grays, from white down: noise, ringing of JPEG
_SMOOTHED_MM = 0.8  # blood that is white here and there is not white as a whole
_SKULL_MM = 80.0  # least length and width; of blood no part has both
_HU_PER_MM = 350.0  # from the edge of the bone inwards
_EDGE_MM = 2.5
_STEP = 4  # every so many rows and columns are enough to look at


def with_bone(hu: FloatArray, pixel_spacing_mm: tuple[float, float]) -> FloatArray:
    """`hu` (slice, row, column) with the clipped skull up to 875 HU denser; the same array where none is clipped.

    The skull is the largest connected part that is white. Blood that touches it and is white as a whole is lost.
    """
    if float(hu.max()) >= _BONE_SHOWS_HU:
        return hu
    black_hu = max(float(hu.min()), _BLACK_HU)
    seen = hu[:, ::_STEP, ::_STEP]
    white_hu = float(np.quantile(seen[seen > black_hu], 1 - _BRIGHTEST)) if (seen > black_hu).any() else black_hu
    smooth = ndimage.gaussian_filter(hu, (0, *(_SMOOTHED_MM / step for step in pixel_spacing_mm)))
    parts, count = ndimage.label(smooth >= white_hu - _WHITE_SHARE * (white_hu - black_hu), np.ones((3, 3, 3)))
    if white_hu == black_hu or not count:
        return hu
    skull = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    _, *inplane = ndimage.find_objects(skull.astype(np.uint8))[0]
    if any((part.stop - part.start) * step < _SKULL_MM for part, step in zip(inplane, pixel_spacing_mm, strict=True)):
        return hu
    dense = hu.copy()
    for plane, bone in zip(dense, skull, strict=True):
        inwards_mm = ndimage.distance_transform_edt(bone, pixel_spacing_mm)[bone]
        plane[bone] = white_hu + _HU_PER_MM * inwards_mm.clip(max=_EDGE_MM)
    return dense
