"""Edema: the dark rim that grows around parenchymal blood in hours and days. Depth and softness are assumed."""

import torch
from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.occupancy import occupancy
from training.simulate.region import smoothed
from training.simulate.space import Space


def edema(edema_ml: float, height: Tensor, blood: Tensor, space: Space, draw: Draw) -> Tensor:
    """HU to add around a parenchymal hematoma (D, H, W), 0 or less: an uneven rim, wider in white matter.

    `height` is the potential that the occupancy `blood` is a level of.
    """
    if edema_ml <= 0:
        return torch.zeros_like(blood)
    height = height + 4 * smoothed(space.white, 5.0, space.grid.spacing_mm)
    height = height + 1.5 * draw.field("edema", space.grid, 10.0)[0]
    room = torch.maximum((space.grey + space.white).clamp(0, 1), blood)
    both_ml = float(blood.sum()) * space.voxel_ml + edema_ml
    rim = occupancy(height, room, both_ml, space.voxel_ml, 2.5, blood) - blood
    return -draw.uniform("edema depth", 8, 15) * rim
