"""Where blood lies in CSF: ventricles fill from the back or with a cast, cisterns and sulci around a source.

Sources are approximate places of aneurysms in ICBM152 coordinates; spreads are assumed.
"""

import math

import torch
from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.intraaxial import Point, above_tentorium_mm, lateral_mm
from training.simulate.region import length_mm, nearest
from training.simulate.space import Space
from training.simulate.spec import Lesion

ANEURYSMS: dict[Point, float] = {  # right side or midline, and share of patients (assumed)
    (1.0, 12.0, -12.0): 0.35,  # anterior communicating
    (14.0, -2.0, -18.0): 0.30,  # internal carotid and posterior communicating
    (38.0, 2.0, -12.0): 0.22,  # bifurcation of the middle cerebral
    (0.0, -18.0, -20.0): 0.13,  # basilar tip and behind
}


def centre(lesion: Lesion, space: Space, draw: Draw) -> Point:
    """Where the blood came from; `space` is the whole head."""
    side = lesion.side or draw.choice("side", (-1, 1))
    if lesion.type == "IVH":
        x, y, z = draw.choice(
            "entry", ((14.0, -20.0, 14.0), (24.0, -40.0, 8.0), (10.0, 14.0, 10.0), (0.0, -40.0, -26.0))
        )
        return -side * x, y, z
    if lesion.site == "convexity":
        lateral = lateral_mm(space, lesion.side)
        good = (space.csf > 0.35) & (space.depth_mm > 4) & (space.depth_mm < 14) & (lateral > 8)
        good &= (above_tentorium_mm(space) > 10) & (space.mni_mm[2] > 0)
        taste = draw.field("place", space.grid, 20.0)[0]
        return nearest(space, torch.where(good, taste, space.csf - 1000.0))
    x, y, z = draw.choice("aneurysm", tuple(ANEURYSMS), tuple(ANEURYSMS.values()))
    return -side * x, y, z


def potential(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    """Readiness of CSF to hold this blood, about mm (D, H, W)."""
    return _in_ventricles(lesion, at, space, draw) if lesion.type == "IVH" else _in_cisterns(lesion, at, space, draw)


def _in_ventricles(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    """A patient on the back: settled blood has a level, fresh clot fills the ventricle that it came into."""
    settled = math.sqrt(draw.uniform("settled"))
    away = length_mm(space.mni_mm - _column(at, space))
    rough = draw.field("rough", space.grid, 9.0)[0]
    own_side = lateral_mm(space, lesion.side).clamp(-8, 8) if lesion.side else torch.zeros_like(away)
    back = space.mni_mm[1].neg()
    return back * settled - away * (1 - settled) + rough * (3 - 2 * settled) + own_side


def _in_cisterns(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    away = length_mm(space.mni_mm - _column(at, space))
    patchy = draw.field("patchy", space.grid, 16.0)[0]
    if lesion.site == "convexity":
        return patchy * 2.5 - away
    below = 0.35 * (space.mni_mm[2] + 5).clamp_min(0)  # basal cisterns fill before the sulci above
    return patchy * 7 - away - below + 0.4 * space.depth_mm.clamp_max(40)


def _column(at: Point, space: Space) -> Tensor:
    return torch.tensor(at, device=space.mni_mm.device)[:, None, None, None]


def allowed(lesion: Lesion, space: Space) -> Tensor:
    """(D, H, W) 0-1: CSF; a voxel that is mostly CSF can fill, since blood widens what it fills."""
    share = space.ventricle if lesion.type == "IVH" else space.csf * (space.depth_mm > 0)
    return (2.5 * share - 0.5).clamp(0, 1)
