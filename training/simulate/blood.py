"""How dense blood is on CT: hematocrit, age of the clot and its inner structure.

Attenuation follows the hematocrit (New and Aronow, Radiology 1976). The blend sign needs a difference of at least 18 HU
(Li et al., Stroke 2015), the black hole of 28 HU (Li et al., Stroke 2016). Factors, fading and other amplitudes are
assumed. In CSF only what is denser than brain is called hemorrhage, as readers do: bloody CSF is CSF. The darker part
of a blend shows as blood to them, unless the whole clot does not (decision 168).
"""

import math

import torch
from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.region import length_mm, smoothed
from training.simulate.space import Space
from training.simulate.spec import Lesion

_LEAST_SAH_HU = 46.0
_LEAST_BLENDED_HU = 42.0
_MOST_HU = 90.0


def clot_hu(age_h: float, hematocrit: float, draw: Draw) -> float:
    """Mean attenuation of a clot: rises as it retracts in the first hours, later dissolves."""
    fresh, retracted = draw.uniform("fresh factor", 115, 135), draw.uniform("clot factor", 155, 185)
    acute = hematocrit * (retracted - (retracted - fresh) * math.exp(-age_h / 3))
    days_late = max(0.0, age_h / 24 - draw.uniform("stable days", 1.5, 3.5))
    return max(draw.uniform("chronic", 12, 28), min(85.0, acute) - draw.uniform("fading", 1.2, 1.8) * days_late)


def blood_hu(lesion: Lesion, space: Space, draw: Draw, occupancy: Tensor, hematocrit: float) -> Tensor:
    """HU of pure blood (D, H, W); meaningful where `occupancy` is above 0."""
    mean = clot_hu(lesion.age_h, hematocrit, draw)
    if lesion.type == "SAH":
        mean = max(mean - draw.uniform("diluted", 0, 8), _LEAST_SAH_HU)
    clouds = draw.field("clouds", space.grid, 12.0)[0]
    hu = mean + draw.uniform("cloudiness", 2.0, 5.0) * clouds
    if lesion.type == "IPH":
        hu = hu - 6 * (1 - smoothed(occupancy, 5.0, space.grid.spacing_mm))  # the rim is less dense
    if lesion.swirl:
        eddies = draw.field("eddies", space.grid, 10.0)[0]
        hu = hu - draw.uniform("swirl depth", 10, 20) * torch.sigmoid(3 * (eddies - 0.6))
    if lesion.blend:
        step = draw.uniform("blend step", 19, 26)
        darker = min(max(mean - 0.6 * step, min(mean, _LEAST_BLENDED_HU)), _MOST_HU - step)
        beyond = _beyond_a_plane(space, occupancy, draw.normals("blend", 3), draw)
        hu = hu + (darker - mean) + step * (1 - beyond)
    if lesion.black_hole:
        hu = hu - draw.uniform("hole depth", 28, 38) * _hole(lesion, space, occupancy, draw)
    if lesion.fluid_level or _acute_on_chronic(lesion, draw):
        up = torch.tensor((0.0, 1.0, 0.0), device=space.mni_mm.device)  # the patient lies on the back
        hu = hu - draw.uniform("supernatant", 15, 30) * _beyond_a_plane(space, occupancy, up, draw)
    return hu.clamp(5, _MOST_HU)


def _acute_on_chronic(lesion: Lesion, draw: Draw) -> bool:
    return lesion.type == "SDH" and lesion.age_h > 120 and draw.chance("acute on chronic", 0.4)


def _centroid(space: Space, occupancy: Tensor) -> Tensor:
    weight = occupancy.reshape(-1)
    return (space.mni_mm.reshape(3, -1) * weight).sum(1) / weight.sum().clamp_min(1e-6)


def _beyond_a_plane(space: Space, occupancy: Tensor, normal: Tensor, draw: Draw) -> Tensor:
    """0-1, sharp: on the far side of a plane through about the middle of the blood."""
    normal = normal / normal.norm()
    shift = draw.uniform("plane", -0.2, 0.35) * (1000 * float(occupancy.sum()) * space.voxel_ml) ** (1 / 3)
    height = (normal @ (space.mni_mm.reshape(3, -1) - _centroid(space, occupancy)[:, None])).reshape(occupancy.shape)
    return torch.sigmoid((height - shift) / 0.6)


def _hole(lesion: Lesion, space: Space, occupancy: Tensor, draw: Draw) -> Tensor:
    size = 0.62 * (1000 * float(occupancy.sum()) * space.voxel_ml) ** (1 / 3)
    middle = _centroid(space, occupancy) + 0.25 * size * draw.normals("hole place", 3).clamp(-1.2, 1.2)
    away = length_mm(space.mni_mm - middle[:, None, None, None])
    wobble = 0.15 * size * draw.field("hole", space.grid, 9.0)[0]
    return torch.sigmoid((size * draw.uniform("hole size", 0.22, 0.38) + wobble - away) / 0.7)
