"""More first CTs of one patient, grown back or on towards the follow-up CT: the synthetic images of system D.

Abramova et al. pair each follow-up with five made baselines, but their code does not show how these are made. Here the
signed distances of both hematomas are interpolated; what is no blood any more becomes brain, as it is on the other side
of the head, and what is new is copied from the follow-up.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ichnode.imaging.volume import FloatArray, Mask

SMALLEST_ML = 0.5
STEPS = (-0.3, 0.7)  # from first CT (0) to follow-up (1); below 0 it is smaller than it was
_RIM_MM = 1.0
_BRAIN_HU, _BRAIN_SD_HU = 32.0, 4.0  # where the other side is no brain
_TISSUE_HU = (5.0, 55.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """A first CT and its follow-up, aligned, (z, y, x), x across the head, its midline in the middle."""

    hu: FloatArray
    hematoma: Mask
    later_hu: FloatArray
    later_hematoma: Mask
    spacing_mm: tuple[float, float, float]


def synthetic_baseline(pair: Pair, step: float, rng: np.random.Generator) -> tuple[FloatArray, Mask] | None:
    """HU and hematoma of a first CT at `step`; None where it would be too small to be one, or nothing bled."""
    if not (pair.hematoma.any() and pair.later_hematoma.any()):
        return None
    first, later = (_outside_mm(mask, pair.spacing_mm) for mask in (pair.hematoma, pair.later_hematoma))
    hematoma: Mask = (1 - step) * first + step * later < 0
    if hematoma.sum() * np.prod(pair.spacing_mm) / 1000 < SMALLEST_ML:
        return None
    hu = _blended(pair.hu, pair.later_hu, hematoma & ~pair.hematoma & pair.later_hematoma, pair)
    return _blended(hu, _without_blood(pair, rng), pair.hematoma & ~hematoma, pair), hematoma


def _outside_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Distance from the margin, negative inside."""
    outside, inside = (ndimage.distance_transform_edt(m, spacing_mm) for m in (~mask, mask))
    return np.asarray(outside - inside, np.float32)


def _blended(hu: FloatArray, other_hu: FloatArray, where: Mask, pair: Pair) -> FloatArray:
    """`other_hu` in `where`, with a soft rim that reaches into the rest."""
    share = ndimage.gaussian_filter(where.astype(np.float32), [_RIM_MM / mm for mm in pair.spacing_mm])
    share = np.where(where, 1.0, share)
    return np.asarray(hu + share * (other_hu - hu), np.float32)


def _without_blood(pair: Pair, rng: np.random.Generator) -> FloatArray:
    """The other side of the head; where that is no brain either, noise around the density of brain."""
    mirrored, bleeding = pair.hu[..., ::-1], (pair.hematoma | pair.later_hematoma)[..., ::-1]
    noise = ndimage.gaussian_filter(rng.standard_normal(pair.hu.shape), (0, 1, 1))
    brain = _BRAIN_HU + _BRAIN_SD_HU * noise / noise.std()
    is_brain = (mirrored > _TISSUE_HU[0]) & (mirrored < _TISSUE_HU[1]) & ~bleeding
    return np.asarray(np.where(is_brain, mirrored, brain), np.float32)
