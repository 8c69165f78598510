"""Cavity: what lies inside the skull, and the brain in it. Some networks are shown it alone, or told where it is."""

import numpy as np
from scipy import ndimage

from ichnode.imaging.volume import FloatArray, Mask

_BONE_HU = 220.0
_SOFT_HU = (-5.0, 110.0)
_SMALLEST_CORE_ML = 250.0  # of the brain without its outer 5 mm
_RIM_MM = 3.0


def cavity_of(hu: FloatArray, spacing_mm: tuple[float, float, float]) -> Mask:
    """Brain and CSF inside the skull, (z, y, x), with some spinal canal; empty where no skull with brain is found."""
    z, y, x = spacing_mm
    hu = ndimage.gaussian_filter(hu, (0.3, 1.2 / y, 1.2 / x))
    soft = (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1])
    core, count = ndimage.label(_eroded(soft, 5.0, spacing_mm))
    sizes = np.bincount(core.ravel(), minlength=2)[1:]
    if not count or sizes.max() * z * y * x < 1000 * _SMALLEST_CORE_ML:
        return np.zeros(hu.shape, np.bool_)
    brain = _near(core == 1 + sizes.argmax(), 6.0, spacing_mm) & soft
    closed = ~_near(~_near(brain, 5.0, spacing_mm), 5.0, spacing_mm)  # takes in calcifications, vessels and dura
    return np.asarray(closed & (brain | (hu < _BONE_HU) | _eroded(closed, 8.0, spacing_mm)))


def brain_in(cavity: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """A cavity without the outer 3 mm of each slice, in whose voxels there is bone; everything where none was found."""
    if not cavity.any() or cavity.all():
        return np.ones_like(cavity)
    y, x = spacing_mm[1:]
    rim_mm = max(_RIM_MM, y, x)
    return np.asarray([ndimage.distance_transform_edt(each, (y, x)) > rim_mm for each in cavity], np.bool_)


def _near(mask: Mask, distance_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(~mask, spacing_mm) <= distance_mm)


def _eroded(mask: Mask, distance_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(mask, spacing_mm) > distance_mm)
