"""Occupancy: the share of each voxel that is blood, from a potential, so that the millilitres come out right."""

import torch
from torch import Tensor


def occupancy(
    potential: Tensor,
    allowed: Tensor,
    volume_ml: float,
    voxel_ml: float,
    softness_mm: float,
    core: Tensor | None = None,
) -> Tensor:
    """Share 0-1 of blood whose sum is `volume_ml`, or all that `allowed` (0-1) holds; never less than `core`."""
    where = allowed > 0.01
    share = torch.zeros_like(allowed)
    height, room = potential[where], allowed[where]
    inner = torch.zeros_like(room) if core is None else core[where]
    if height.numel():
        level = _level(height, room, inner, volume_ml / voxel_ml, softness_mm)
        share[where] = _filled(height, room, inner, level, softness_mm)
    return share


def _level(height: Tensor, room: Tensor, core: Tensor, voxels: float, softness_mm: float) -> Tensor:
    """By bisection; voxels that are settled whatever the level turns out to be are counted once and left out."""
    low, high = height.min() - softness_mm, height.max() + softness_mm
    settled = torch.zeros_like(low)
    for turn in range(20):
        if turn % 3 == 0:
            full, free = height > high + softness_mm, height < low - softness_mm
            settled = settled + room[full].sum() + core[free].sum()
            height, room, core = (v[~(full | free)] for v in (height, room, core))
        level = (low + high) / 2
        too_much = settled + _filled(height, room, core, level, softness_mm).sum() > voxels
        low, high = torch.where(too_much, level, low), torch.where(too_much, high, level)
    return high


def _filled(height: Tensor, room: Tensor, core: Tensor, level: Tensor, softness_mm: float) -> Tensor:
    return torch.maximum(core, room * ((height - level) / (2 * softness_mm) + 0.5).clamp(0, 1))
