"""A classical hematoma detector behind the interface of a network: it learned nothing, and each rule can be read.

Not from a paper. Its parts are old: the skull as a shell found by rays, blood as tissue brighter than its surroundings
(acute blood 50-95 HU against 25-40 HU of brain; Bergström et al., J Comput Assist Tomogr 1977), thin bright sheets
(falx, tentorium, sinus walls) removed by a morphological opening, calcification by its HU. Every number is a buffer, so
it lies in the weights file and the weights hash names it.

It does not find: subarachnoid or subdural hemorrhage that is a thin layer, blood as dark as brain (subacute, or severe
anemia), hematomas below about 1 mL. It may mark enhanced vessels, hyperdense tumors and dense sinuses.
"""

import numpy as np
import SimpleITK as sitk  # noqa: N813  the name its documentation uses
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# what the shipped weights hold; names end in the unit
RULES: dict[str, float] = {
    "spacing_z_mm": 2.5,
    "spacing_y_mm": 1.0,
    "spacing_x_mm": 1.0,
    "bone_hu": 150.0,  # the skull, after smoothing
    "soft_tissue_low_hu": -10.0,  # CSF with noise and its mean below zero
    "soft_tissue_high_hu": 110.0,  # densest acute clot, not yet bone
    "skull_smoothing_mm": 1.0,
    "strip_radius_mm": 5.0,  # wider than foramina and scalp
    "denoise_mm": 1.4,
    "brain_low_hu": 22.0,  # bounds of the median of any brain
    "brain_high_hu": 42.0,
    "brain_contrast_range_hu": 12.0,  # of parenchyma around that median
    "background_mm": 20.0,  # reach of "local" brain
    "calcification_hu": 110.0,
    "calcification_margin_mm": 2.0,
    "seed_contrast_hu": 15.0,
    "seed_bone_distance_mm": 3.0,  # no seed in the partial volume of the inner table
    "seed_bone_distance_z_mm": 7.5,  # the same for slices up to 7 mm thick
    "seed_radius_mm": 2.5,  # sheets thinner than twice this are no seed
    "seed_area_cm2": 35.0,  # no seed on smaller axial sections of brain: foramen magnum (streaks), vertex
    "reach_mm": 6.0,  # how far a hematoma may reach beyond its seeds
    "core_quantile": 0.7,
    "min_core_contrast_hu": 18.0,
    "edge_blur_mm": 2.0,  # width of the edge, left out of the surrounding brain
    "edge_fraction": 0.48,  # of the way from brain to blood; below half, because denoising shrinks what is convex
    "edge_softness": 0.12,  # of the contrast; sets how far strict and lenient volumes lie apart
    "min_volume_ml": 0.8,
}


class HematomaBaseline(nn.Module):
    """Head CT to hematoma probability by HU and shape; see the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in RULES.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        """Probability 0-1, (batch, 1, z, y, x), from HU of the same shape on the canonical grid (+z cranial)."""
        return torch.stack([self._probability(hu_dhw)[None] for hu_dhw in x_bcdhw[:, 0]])

    def _rule(self, name: str) -> float:
        return float(self.get_buffer(name))

    @property
    def _spacing_mm(self) -> tuple[float, float, float]:
        return self._rule("spacing_z_mm"), self._rule("spacing_y_mm"), self._rule("spacing_x_mm")

    def _probability(self, hu_dhw: Tensor) -> Tensor:
        brain = self.brain(hu_dhw)
        probability = torch.zeros_like(hu_dhw)
        if bool(brain.any()):
            box = _box(brain)
            probability[box] = self._hematoma(hu_dhw[box], brain[box])
        return probability

    def _hematoma(self, hu_dhw: Tensor, brain: Tensor) -> Tensor:
        """Probability of each voxel: grown from seeds, each connected territory judged by its own contrast."""
        contrast = self.contrast(hu_dhw, brain)
        soft = brain & ~self._calcified(hu_dhw, brain)
        seeds = self._seeds(contrast, brain, soft)
        territories = _components(soft & self._within(seeds, self._rule("reach_mm")))
        probability = torch.zeros_like(hu_dhw)
        for label in torch.unique(territories[seeds]).tolist():
            p = self._blood(contrast, territories == label, seeds)
            if float((p > 0.5).sum()) * self._voxel_ml >= self._rule("min_volume_ml"):
                probability += p
        return probability

    def _blood(self, contrast: Tensor, territory: Tensor, seeds: Tensor) -> Tensor:
        """Probability by where each voxel's contrast lies between the surrounding brain and the core of the seeds."""
        core = contrast[territory & seeds].quantile(self._rule("core_quantile"))
        if core < self._rule("min_core_contrast_hu"):
            return torch.zeros_like(contrast)
        bright = territory & (contrast > core / 2)
        around = contrast[territory & ~self._within(bright, self._rule("edge_blur_mm"))]
        parenchyma = around[around.abs() < self._rule("brain_contrast_range_hu")]
        surround = parenchyma.median() if len(parenchyma) else torch.zeros_like(core)
        share = (contrast - surround) / (core - surround)
        p = torch.sigmoid((share - self._rule("edge_fraction")) / self._rule("edge_softness")) * territory
        parts = _components(p > 0.5)
        detached = (parts > 0) & ~torch.isin(parts, torch.unique(parts[seeds & (parts > 0)]))
        return p * ~detached

    @property
    def _voxel_ml(self) -> float:
        return float(np.prod(self._spacing_mm)) / 1000

    def brain(self, hu_dhw: Tensor) -> Tensor:
        """Mask of what lies inside the skull: soft tissue that meets bone on at least four of five sides.

        Bone is looked for to the left, right, front, back and above. One side may be missing, so that an open vertex
        (partial head) or a craniectomy keeps its brain.
        """
        smooth = _gaussian(hu_dhw.clamp(-1024, 2000), self._rule("skull_smoothing_mm"), self._spacing_mm)
        bone = smooth > min(self._rule("bone_hu"), 0.95 * float(smooth.max()))
        above, back, front = _seen(bone.flip(0), 0).flip(0), _seen(bone.flip(1), 1).flip(1), _seen(bone, 1)
        left, right = _seen(bone.flip(2), 2).flip(2), _seen(bone, 2)
        sides = above.int() + back.int() + front.int() + left.int() + right.int()
        soft = (smooth > self._rule("soft_tissue_low_hu")) & (smooth < self._rule("soft_tissue_high_hu")) & (sides >= 4)
        radius = self._rule("strip_radius_mm")
        core = _largest(self._deeper_than(soft, radius))
        return _filled(self._within(core, radius) & soft)

    def contrast(self, hu_dhw: Tensor, brain: Tensor) -> Tensor:
        """HU above the local brain, denoised inside the brain only, so that bone does not shine in; 0 outside."""
        weight = brain.to(hu_dhw.dtype)
        smooth = _inside(hu_dhw.clamp(-50, 150), weight, self._rule("denoise_mm"), self._spacing_mm)
        typical = smooth[brain].median().clamp(self._rule("brain_low_hu"), self._rule("brain_high_hu"))
        parenchyma = brain & ((smooth - typical).abs() < self._rule("brain_contrast_range_hu"))
        both = torch.stack([smooth * parenchyma, parenchyma.to(hu_dhw.dtype)])
        block = min(2, both.shape[1]), 5, 5  # a head may be one plane
        coarse = functional.avg_pool3d(both, block, ceil_mode=True, count_include_pad=False)
        z, y, x = self._spacing_mm
        blurred = [_gaussian(c, self._rule("background_mm"), (block[0] * z, 5 * y, 5 * x)) for c in coarse]
        local = torch.where(blurred[1] > 1e-3, blurred[0] / blurred[1].clamp_min(1e-3), typical)
        shape = tuple(hu_dhw.shape)
        background = functional.interpolate(local[None, None], shape, mode="trilinear")[0, 0]
        return (smooth - background) * brain

    def _calcified(self, hu_dhw: Tensor, brain: Tensor) -> Tensor:
        """Calcification inside the brain, with the margin that it brightens."""
        dense = _gaussian(hu_dhw.clamp(-50, 1000), self._rule("skull_smoothing_mm"), self._spacing_mm)
        calcified = brain & (dense > self._rule("calcification_hu"))
        return self._within(calcified, self._rule("calcification_margin_mm"))

    def _seeds(self, contrast: Tensor, brain: Tensor, soft: Tensor) -> Tensor:
        """Voxels that only a hematoma explains: bright, thick in every direction, far from bone and calcification."""
        clear = soft & self._deeper_than(self._shorter(brain), self._rule("seed_bone_distance_mm"))
        area_cm2 = brain.sum(dim=(1, 2)) * self._rule("spacing_y_mm") * self._rule("spacing_x_mm") / 100
        clear &= (area_cm2 >= self._rule("seed_area_cm2"))[:, None, None]
        bright = (contrast > self._rule("seed_contrast_hu")) & clear
        radius = self._rule("seed_radius_mm")
        return self._within(self._deeper_than(bright, radius), radius) & bright

    def _shorter(self, mask: Tensor) -> Tensor:
        """Eroded along z alone: slices are thick, so bone shines further up and down than sideways."""
        steps = round(self._rule("seed_bone_distance_z_mm") / self._rule("spacing_z_mm"))
        outside = (~mask)[None, None].float()
        return functional.max_pool3d(outside, (2 * steps + 1, 1, 1), stride=1, padding=(steps, 0, 0))[0, 0] < 0.5

    def _deeper_than(self, mask: Tensor, distance_mm: float) -> Tensor:
        """Erosion by a ball."""
        return ~self._within(~mask, distance_mm)

    def _within(self, mask: Tensor, distance_mm: float) -> Tensor:
        """Dilation by a ball."""
        if not bool(mask.any()):
            return mask
        image = _image(mask, self._spacing_mm)
        distance = sitk.SignedMaurerDistanceMap(image, False, False, True)
        return torch.from_numpy(sitk.GetArrayFromImage(distance) <= distance_mm).to(mask.device)


def _gaussian(x_dhw: Tensor, sigma_mm: float, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Separable Gaussian, edges replicated."""
    for axis, spacing in enumerate(spacing_mm):
        sigma = sigma_mm / spacing
        reach = max(1, min(round(3 * sigma), x_dhw.shape[axis] - 1))
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x_dhw.device) / sigma) ** 2).to(x_dhw.dtype)
        lines = x_dhw.movedim(axis, -1)
        padded = functional.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        smooth = functional.conv1d(padded, (taps / taps.sum())[None, None])
        x_dhw = smooth.reshape(lines.shape).movedim(-1, axis)
    return x_dhw


def _inside(x_dhw: Tensor, weight_dhw: Tensor, sigma_mm: float, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Gaussian mean over the weighted voxels only (normalized convolution)."""
    total = _gaussian(weight_dhw, sigma_mm, spacing_mm)
    return _gaussian(x_dhw * weight_dhw, sigma_mm, spacing_mm) / total.clamp_min(1e-3) * (weight_dhw > 0)


def _seen(bone: Tensor, axis: int) -> Tensor:
    """Whether bone lies at or before each voxel along `axis`."""
    return torch.cummax(bone.to(torch.uint8), dim=axis).values.bool()


def _image(mask: Tensor, spacing_mm: tuple[float, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.cpu().numpy().astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    return image


def _components(mask: Tensor) -> Tensor:
    """Labels from 1, largest first; 0 outside."""
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(_image(mask, (1, 1, 1))))
    array: NDArray[np.int64] = sitk.GetArrayFromImage(labels).astype(np.int64)
    return torch.from_numpy(array).to(mask.device)


def _box(mask: Tensor) -> tuple[slice, ...]:
    """The box around a mask with some voxels to spare on each side."""
    spare = 4
    ends = [(int(i.min()), int(i.max())) for i in torch.nonzero(mask, as_tuple=True)]
    return tuple(slice(max(0, first - spare), last + 1 + spare) for first, last in ends)


def _largest(mask: Tensor) -> Tensor:
    return _components(mask) == 1


def _filled(mask: Tensor) -> Tensor:
    """Without holes in any axial slice."""
    planes = [sitk.GetArrayFromImage(sitk.BinaryFillhole(_image(plane, (1, 1)))) for plane in mask]
    return torch.from_numpy(np.stack(planes).astype(bool)).to(mask.device)
