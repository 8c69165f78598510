"""Where subdural and epidural blood lies: crescents and lenses under the inner table, sheets on falx and tentorium.

Extents and shapes are assumed, from the look of clinical cases.
"""

import math

import torch
from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.intraaxial import Point, above_tentorium_mm, lateral_mm
from training.simulate.region import length_mm
from training.simulate.space import Space
from training.simulate.spec import Lesion

HEAD_CENTRE: Point = (0.0, -18.0, 8.0)
SKULL_RADIUS_MM = 72.0
_BEGINS_MM = 0.5  # depth from which blood may lie; a millimetre deeper it fills, and 5 % is bone (anatomy.tissue_hu)


def centre(lesion: Lesion, space: Space, draw: Draw) -> Point:
    """The middle of the sheet, or a place on a ball about the size of the skull."""
    side = lesion.side or 1
    if lesion.site == "falx":
        return 0.0, draw.uniform("along", -65.0, 40.0), draw.uniform("height", 35.0, 55.0)
    if lesion.site == "tentorium":
        return -side * draw.uniform("out", 15.0, 30.0), draw.uniform("along", -80.0, -50.0), -12.0
    low, high = (-50, 45) if lesion.type == "EDH" else (-25, 30)
    turn = math.radians(draw.uniform("turn", low, high))  # 0 straight lateral, positive forwards
    rise = math.radians(draw.uniform("rise", -8, 45) if lesion.type == "EDH" else draw.uniform("rise", 10, 40))
    out, ahead, up = math.cos(rise) * math.cos(turn), math.cos(rise) * math.sin(turn), math.sin(rise)
    x, y, z = HEAD_CENTRE
    return x - side * SKULL_RADIUS_MM * out, y + SKULL_RADIUS_MM * ahead, z + SKULL_RADIUS_MM * up


def potential(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    """Thickness that the hemorrhage has here minus the distance from what it lies on, mm (D, H, W)."""
    if lesion.site == "falx":
        return _falx(lesion, at, space, draw)
    if lesion.site == "tentorium":
        return _tentorium(lesion, at, space, draw)
    return _lens(lesion, at, space, draw) if lesion.type == "EDH" else _crescent(lesion, at, space, draw)


def _on_the_skull(lesion: Lesion, at: Point, space: Space) -> tuple[Tensor, Tensor]:
    """Distances from `at` along the skull, mm: forwards and upwards (stereographic)."""
    middle = torch.tensor(HEAD_CENTRE, device=space.mni_mm.device)
    towards = torch.tensor(at, device=middle.device) - middle
    normal = towards / towards.norm()
    ahead = torch.linalg.cross(normal, normal.new_tensor((0.0, 0.0, 1.0)))
    ahead = ahead / ahead.norm() * (-1 if normal[0] < 0 else 1)
    up = torch.linalg.cross(ahead, normal) * (-1 if normal[0] < 0 else 1)
    rays = (space.mni_mm - middle[:, None, None, None]).reshape(3, -1)
    if not lesion.side:
        rays = torch.stack((-rays[0].abs(), rays[1], rays[2]))
    along, ahead_mm, up_mm = torch.stack((normal, ahead, up)) @ rays
    scale = 2 * SKULL_RADIUS_MM / (length_mm(rays) + along).clamp_min(0.1)
    return (ahead_mm * scale).reshape(space.grid.shape), (up_mm * scale).reshape(space.grid.shape)


def _crescent(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    volume = 1000 * max(lesion.volume_ml, 0.7 * lesion.followup_ml)
    grown = (volume / 40000) ** 0.36
    long = min(110.0, grown * draw.uniform("long", 50.0, 85.0))
    high = min(90.0, grown * draw.uniform("high", 36.0, 58.0))
    thick = min(24.0, 1.6 * volume / (math.pi * long * high))
    ahead, up = _on_the_skull(lesion, at, space)
    edge = (ahead / long).square() + (up / high).square()
    uneven = draw.field("uneven", space.grid, 30.0)[0] * 0.25 + 1
    sheet: Tensor = (1 - edge) * uneven * thick
    sheet = torch.where(edge < 1, sheet, 8 * (1 - edge))  # outside the margin, spread only when forced
    barriers = (2 - lateral_mm(space, lesion.side)).clamp_min(0) + (2 - above_tentorium_mm(space)).clamp_min(0)
    return sheet - space.depth_mm - barriers * 3


def _lens(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    volume = 1000 * max(lesion.volume_ml, 0.7 * lesion.followup_ml)
    bulge = draw.uniform("bulge", 0.5, 0.85)  # thickness over half width
    wide = (1.6 * volume / (math.pi * bulge)) ** (1 / 3)
    aspect = draw.uniform("aspect", 0.8, 1.25)
    ahead, up = _on_the_skull(lesion, at, space)
    uneven = draw.field("uneven", space.grid, 20.0)[0] * 0.06 + 1
    edge = (ahead / (wide * aspect)).square() + (up * aspect / wide).square()
    rounded = (1 - edge).clamp_min(0) ** 0.6 * uneven
    sheet: Tensor = torch.where(edge < 1, rounded, 1 - edge) * (bulge * wide)
    return sheet - space.depth_mm


def _falx(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    _, y, z = space.mni_mm.unbind()
    thick = min(9.0, 2.0 + 0.25 * lesion.volume_ml)
    long = 18 + 4.0 * max(lesion.volume_ml, 0.7 * lesion.followup_ml) ** 0.7
    inside_callosum = 1 - (((y + 8) / 52).square() + ((z - 6) / 34).square()).sqrt()
    uneven = draw.field("uneven", space.grid, 25.0)[0] * 0.3 + 1
    sheet: Tensor = uneven * (1 - ((y - at[1]) / long).square()) * thick
    away = lateral_mm(space, lesion.side)
    wrong = (-away).clamp_min(0) + inside_callosum.clamp_min(0) * 30 + (-4 - z).clamp_min(0)
    wrong = wrong + (2 - above_tentorium_mm(space)).clamp_min(0)
    return sheet - away.clamp_min(0) - wrong * 3


def _tentorium(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    y = space.mni_mm[1]
    thick = min(9.0, 2.5 + 0.3 * lesion.volume_ml)
    long = 20 + 4.0 * max(lesion.volume_ml, 0.7 * lesion.followup_ml) ** 0.7
    out = lateral_mm(space, lesion.side)
    uneven = draw.field("uneven", space.grid, 25.0)[0] * 0.3 + 1
    edge = ((out - abs(at[0])) / long).square() + ((y - at[1]) / long).square()
    height = above_tentorium_mm(space) * 0.9  # across the slope
    wrong = (-height).clamp_min(0) + (-out).clamp_min(0) + (y + 38).clamp_min(0)
    sheet: Tensor = uneven * (1 - edge) * thick
    return sheet - height.clamp_min(0) - wrong * 3


def allowed(lesion: Lesion, space: Space) -> Tensor:
    """(D, H, W) 0-1: inside where the inner table fades, outside the ventricles; tissue gives way."""
    return (space.depth_mm - _BEGINS_MM).clamp(0, 1) * (1 - space.ventricle)
