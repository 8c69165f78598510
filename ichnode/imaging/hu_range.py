"""HU range: CT whose values are not HU, because it was exported as pictures or lost its rescale.

The brain tells. Between CSF and bone most of a head is brain, and the median there is 22 to 45 HU (29 to 34 in the
heads at hand, in any window). So gray values and lost offsets are recognised and turned into HU, with a caveat. What
is not recognised stays as it is where the header vouches for it, and is refused where it does not.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ichnode.domain.findings import Caveat
from ichnode.domain.reasons import Reason
from ichnode.domain.study import HeaderValue
from ichnode.errors import RefusedSeries
from ichnode.imaging.series_gate import rescale
from ichnode.imaging.slices import Slice
from ichnode.imaging.volume import FloatArray, Volume
from ichnode.imaging.windows import BRAIN, Window

MEDIAN_BRAIN_HU = (22.0, 45.0)
BETWEEN_HU = (0.0, 80.0)  # CSF and bone
MIN_SHARE = 0.03  # of all voxels, that lie between these; about 0.15 of a head with the air around it
OFFSET = 1024.0  # that stored values usually have
AIR_HU = -300.0  # what is thinner is air
WHITE = 255.0  # the brightest gray
CLIPPED_HU = Window(width=WHITE, level=WHITE / 2)  # gray values that are HU
MAX_WIDTH_HU = 400.0  # 256 grays over a wider window tell blood and brain badly apart
_PADDING_HU = -1024.0
_ABOVE_BLACK_HU = 5.0  # in gray values the air is as black as fat or CSF
_STEP = 4  # every so many rows and columns are enough to look at


def with_true_hu(volume: Volume, one: Slice) -> Volume:
    """`volume` as it is where its values can be HU, else with estimated HU and a caveat.

    `one` is any of its slices: they share one rescale. Raises RefusedSeries.
    """
    seen, is_stated = volume.hu[:, ::_STEP, ::_STEP].ravel(), "RescaleSlope" in one.header
    if "PixelPaddingValue" in one.header:
        seen = seen[seen > _PADDING_HU]
    slope, intercept = rescale(one)
    if len(seen) and intercept <= seen.min() and seen.max() <= intercept + slope * WHITE:
        return _from_grays(volume, one, (seen - intercept) / slope)
    if is_stated and (not len(seen) or seen.min() < AIR_HU):
        return volume
    if _shows_brain(seen - OFFSET, BETWEEN_HU):
        return replace(volume, hu=volume.hu - np.float32(OFFSET), caveats=(Caveat.LOST_OFFSET,))
    if is_stated:
        return volume
    if _shows_brain(seen, BETWEEN_HU):
        return replace(volume, caveats=(Caveat.NO_RESCALE,))
    raise RefusedSeries(Reason.NO_RESCALE, "no rescale slope and intercept, and no brain in the stored values")


def air_up_to(lowest_hu: float) -> float:
    """HU of the densest air in a volume whose lowest value is given, which in gray values is that of the air."""
    return max(AIR_HU, lowest_hu + _ABOVE_BLACK_HU)


def _from_grays(volume: Volume, one: Slice, grays: FloatArray) -> Volume:
    """HU of a volume whose stored values, some of which are `grays`, lie from 0 to 255."""
    slope, intercept = rescale(one)
    window = _gray_window(grays, one.header)
    if window is CLIPPED_HU and (slope, intercept) == (1, 0):
        return volume
    low, step = window.level - window.width / 2, window.width / WHITE
    stored = np.maximum(volume.hu - np.float32(intercept), 0) * np.float32(1 / slope)
    return replace(volume, hu=stored * np.float32(step) + np.float32(low), caveats=(Caveat.EIGHT_BIT,))


def _gray_window(grays: FloatArray, header: Mapping[str, HeaderValue]) -> Window:
    """What the gray values are of: clipped HU, the window of the header, or the usual one. Raises RefusedSeries.

    Inverted grays, bright around the head, are none of these.
    """
    white = float(grays.max())
    if np.mean(grays == 0) > np.mean(grays == white):
        for window in (CLIPPED_HU, *_window(header), BRAIN):
            low, step = window.level - window.width / 2, window.width / WHITE
            if _shows_brain(low + step * grays, (low, low + step * white)):
                return window
    raise RefusedSeries(Reason.NO_RESCALE, f"values from 0 to {white:g} with a median of {np.median(grays):g}")


def _shows_brain(hu: FloatArray, between: tuple[float, float]) -> bool:
    """Whether there is much between the two limits, and its median is that of brain."""
    inner = hu[(hu > between[0]) & (hu < between[1])]
    enough = len(inner) > MIN_SHARE * len(hu)
    return enough and MEDIAN_BRAIN_HU[0] <= float(np.median(inner)) <= MEDIAN_BRAIN_HU[1]


def _window(header: Mapping[str, HeaderValue]) -> list[Window]:
    """The first window of the header, if brain is read in such a one."""
    width, level = header.get("WindowWidth"), header.get("WindowCenter")
    if not isinstance(width, tuple) or not isinstance(level, tuple):
        return []
    window = Window(width=float(width[0]), level=float(level[0]))
    return [window] if 0 < window.width <= MAX_WIDTH_HU else []
