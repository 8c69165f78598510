"""Where everything lies in a real head CT: CSF and brain from its HU, atlas places from a fit of its cavity.

Thresholds lie between the common HU of CSF, brain and bone; all else is measured in the image itself.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ichnode.imaging.resample import CanonicalGrid
from ichnode.imaging.volume import FloatArray, Mask
from training.simulate.anatomy import CENTRE_MNI, lps_mm
from training.simulate.atlas import Atlas
from training.simulate.space import Space

_CSF_BELOW_BRAIN_HU = 18.0
_FAT_HU = -15.0  # beside what is thinner than this, dark voxels are no CSF
_BONE_BLUR_MM = 1.8  # so far inside the inner table, smoothed bone is brighter than soft tissue
_DEPTHS_MM = (-12.0, 30.0)  # between these the cavity is fitted to the atlas's
_BEYOND_ATLAS_MM = 6.0  # so far heads differ from the atlas once it is fitted
_VERTEX_MNI_MM, _RADIUS_MM = 76.0, 75.0
_LOWEST_MNI_MM = -68.0  # below the foramen magnum lies the neck


def depth_of(cavity: Mask, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """mm from the inner table, positive inside."""
    inside = ndimage.distance_transform_edt(cavity, spacing_mm)
    outside = ndimage.distance_transform_edt(~cavity, spacing_mm)
    signed = np.where(cavity, inside - 0.5 * spacing_mm[2], 0.5 * spacing_mm[2] - outside)
    return np.asarray(ndimage.gaussian_filter(signed.astype(np.float32), 0.7) + np.float32(_BONE_BLUR_MM))


def fitted_mni(depth: Tensor, grid: CanonicalGrid, atlas: Atlas) -> Tensor:
    """(3, D, H, W): ICBM152 places by the pose and size that bring the cavity onto the atlas's."""
    lps = lps_mm(grid, "cpu").reshape(3, -1)
    low, high = _DEPTHS_MM
    near = ((depth > low) & (depth < high)).reshape(-1).nonzero()[:, 0]
    chosen = near[torch.linspace(0, len(near) - 1, 30_000).long()]
    places, wanted = lps[:, chosen], depth.reshape(-1)[chosen]
    middle = lps[:, (depth > 0).reshape(-1)].mean(1, keepdim=True)
    top = lps[2, (depth > 0).reshape(-1)].max()
    # from a head upright and of common size: its vertex at the atlas's, its middle in the median plane
    start = torch.tensor((CENTRE_MNI[0], CENTRE_MNI[1], _VERTEX_MNI_MM - float(top - middle[2])))
    turn, log_size, shift = torch.zeros(3), torch.zeros(3), start
    fitted = [value.requires_grad_() for value in (turn, log_size, shift)]
    descent = torch.optim.LBFGS(fitted, max_iter=120, line_search_fn="strong_wolfe")

    def moved(points: Tensor) -> Tensor:
        return _turned_and_sized(turn, log_size) @ (points - middle) + shift[:, None]

    def mismatch() -> Tensor:
        descent.zero_grad()
        now = moved(places)
        found = atlas.shell.at(now[:, None, None])["depth"].reshape(-1)
        above = now[2].detach() > _LOWEST_MNI_MM
        loss = ((found.clamp(low, high) - wanted).square() * above).sum() / above.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    descent.step(mismatch)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return moved(lps).reshape(3, *depth.shape)


def _turned_and_sized(turn: Tensor, log_size: Tensor) -> Tensor:
    """From LPS to atlas axes: a rotation, then a size for each axis; no shear. In mm of effect on the skull."""
    x, y, z = turn / _RADIUS_MM
    zero = torch.zeros_like(x)
    spin = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero)).reshape(3, 3)
    size = (log_size / _RADIUS_MM).exp()[:, None]
    to_atlas: Tensor = size * torch.linalg.matrix_exp(spin) * torch.tensor((-1.0, -1.0, 1.0))
    return to_atlas


def space_of(hu: FloatArray, depth: FloatArray, grid: CanonicalGrid, atlas: Atlas) -> Space:
    """The undisturbed anatomy of a real head, all on `grid`."""
    inside_mm = torch.from_numpy(depth)
    mni = fitted_mni(inside_mm, grid, atlas)
    expected = atlas.brain.at(mni)
    usual_mm = torch.minimum(atlas.shell.at(mni)["depth"] + _BEYOND_ATLAS_MM, mni[2] - _LOWEST_MNI_MM)
    inside_mm = torch.minimum(inside_mm, usual_mm)  # neither into the neck nor through thin bone into the nose
    inside = torch.sigmoid(inside_mm / 0.5)
    fluid = torch.from_numpy(_fluid(hu, depth > 5)) * inside
    ventricular = torch.from_numpy(ndimage.gaussian_filter(expected["ventricle"].numpy(), (1.2, 3, 3)))
    ventricular = torch.sigmoid((ventricular - 0.12) / 0.02) * torch.sigmoid((inside_mm - 14) / 2)
    grey = expected["grey"] / (expected["grey"] + expected["white"]).clamp_min(0.05)
    tissue = inside - fluid
    sulcal = torch.sigmoid((0.55 - expected["white"]) / 0.06)  # dark white matter and old infarcts are no CSF
    return Space(
        grid=grid,
        mni_mm=mni,
        depth_mm=inside_mm,
        grey=tissue * grey.clamp(0, 1),
        white=tissue * (1 - grey.clamp(0, 1)),
        ventricle=fluid * ventricular,
        csf=fluid * (1 - ventricular) * sulcal,
    )


def _fluid(hu: FloatArray, deep: Mask) -> FloatArray:
    """Share of CSF, by how dark a voxel is between brain and pure CSF, both as this image shows them."""
    smooth = ndimage.gaussian_filter(hu, (0.4, 0.9, 0.9))
    brain_hu = float(np.median(smooth[deep & (smooth > 20) & (smooth < 60)]))
    csf_hu = float(np.percentile(smooth[deep & (smooth > -10) & (smooth < 60)], 1))
    csf_hu = min(csf_hu, brain_hu - _CSF_BELOW_BRAIN_HU)  # slit ventricles and narrow sulci show no pure CSF
    share = np.clip((brain_hu - 5 - smooth) / (brain_hu - 5 - csf_hu - 4), 0, 1)
    return np.asarray(share * (ndimage.minimum_filter(smooth, (1, 5, 5)) > _FAT_HU), np.float32)
