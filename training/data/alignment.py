"""Alignment: a follow-up CT brought onto the grid of the first, rigid and then affine, so that only changes differ.

Nothing deforms: that would undo the growth that is to be learned. Pairs whose brains do not lie on each other
afterwards are refused.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK

from ichnode.imaging.cavity import cavity_of
from ichnode.imaging.resample import OUTSIDE_HU, CanonicalGrid
from ichnode.imaging.volume import FloatArray, Mask
from training.data.manifest import DataError

LEAST_OVERLAP = 0.95  # Dice of the two intracranial cavities
_SEEN_HU = (-200.0, 400.0)  # what the fit looks at: skin, brain and that there is bone
_BINS, _SAMPLED = 32, 0.2  # of Mattes mutual information: bins of its histogram, share of the voxels
_ITERATIONS, _SHRINK, _SMOOTH_MM = 200, (4, 2, 1), (4, 2, 0)
_SEED = 1


class NotAligned(DataError):
    """Two CTs that cannot be brought onto each other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """A CT on a canonical grid, (z, y, x)."""

    hu: FloatArray
    grid: CanonicalGrid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alignment:
    """How a follow-up lies on the first CT."""

    first: CanonicalGrid
    later: CanonicalGrid
    transform: SimpleITK.Transform  # from LPS places in the first CT to those in the follow-up

    def hu(self, later_hu: FloatArray) -> FloatArray:
        """The follow-up's HU on the grid of the first CT, linear between voxels."""
        return self._moved(later_hu, SimpleITK.sitkLinear, OUTSIDE_HU)

    def mask(self, later_mask: Mask) -> Mask:
        """A mask of the follow-up on the grid of the first CT, as the nearest voxel has it."""
        return self._moved(later_mask.astype(np.float32), SimpleITK.sitkNearestNeighbor, 0.0) > 0.5

    def _moved(self, values: FloatArray, interpolator: int, outside: float) -> FloatArray:
        onto = _image(np.zeros(self.first.shape, np.float32), self.first)
        moved = SimpleITK.Resample(_image(values, self.later), onto, self.transform, interpolator, outside)
        return np.asarray(SimpleITK.GetArrayFromImage(moved), np.float32)


def alignment(first: Head, later: Head) -> Alignment:
    """Raises NotAligned where a head is not found, or the two do not lie on each other."""
    cavities = [cavity_of(head.hu, head.grid.spacing_mm) for head in (first, later)]
    if not all(cavity.any() for cavity in cavities):
        raise NotAligned("no head: a skull with brain inside was not found")
    try:
        transform = _transform(first, later)
    except RuntimeError as problem:  # of SimpleITK
        raise NotAligned(f"the two CTs cannot be brought onto each other: {problem}") from problem
    found = Alignment(first=first.grid, later=later.grid, transform=transform)
    here, there = cavities[0], found.mask(cavities[1])
    overlap = 2 * np.count_nonzero(here & there) / (np.count_nonzero(here) + np.count_nonzero(there))
    if overlap < LEAST_OVERLAP:
        raise NotAligned(f"the two CTs do not lie on each other: their brains overlap by {overlap:.3f} only")
    return found


def _transform(first: Head, later: Head) -> SimpleITK.Transform:
    fixed, moving = (_image(np.clip(head.hu, *_SEEN_HU), head.grid) for head in (first, later))
    rigid = SimpleITK.CenteredTransformInitializer(
        fixed, moving, SimpleITK.Euler3DTransform(), SimpleITK.CenteredTransformInitializerFilter.MOMENTS
    )
    rigid = SimpleITK.Euler3DTransform(_fitted(fixed, moving, rigid))
    affine = SimpleITK.AffineTransform(3)
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    affine.SetCenter(rigid.GetCenter())
    return _fitted(fixed, moving, affine)


def _fitted(fixed: SimpleITK.Image, moving: SimpleITK.Image, start: SimpleITK.Transform) -> SimpleITK.Transform:
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SAMPLED, _SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-4, numberOfIterations=_ITERATIONS, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_SMOOTH_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return start


def _image(values: FloatArray, grid: CanonicalGrid) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing([float(mm) for mm in grid.spacing_mm[::-1]])
    image.SetOrigin([float(mm) for mm in grid.origin_lps])
    return image
