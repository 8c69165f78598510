"""Staining: contrast that thrombectomy left in infarcted brain: bright like blood, but no hemorrhage.

It keeps to grey matter, shows sulci through it, and lies in an infarct. Its size comes from the patient's spec, its HU
are assumed.
"""

import torch
from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.occupancy import occupancy
from training.simulate.space import Space

_PUTAMEN_MNI = (27.0, 2.0, 2.0)


def stained(hu: Tensor, space: Space, draw: Draw, *, staining_ml: float, side: int) -> Tensor:
    """The head with its infarct and the contrast in it; `side` -1 right, +1 left."""
    if staining_ml <= 0:
        return hu
    x, y, z = space.mni_mm
    centre = [
        c + draw.normal(f"staining {a}", 0, 6)
        for c, a in zip((-side * _PUTAMEN_MNI[0], *_PUTAMEN_MNI[1:]), "xyz", strict=True)
    ]
    distance = torch.sqrt((x - centre[0]) ** 2 + (0.7 * (y - centre[1])) ** 2 + (z - centre[2]) ** 2)
    rough = 7 * draw.field("staining shape", space.grid, 16.0)[0]
    tissue = (space.grey + space.white).clamp(0, 1)
    infarct = torch.sigmoid((draw.uniform("infarct radius", 18, 45) - distance + rough) / 3) * tissue
    hu = hu - draw.uniform("infarct darker", 2, 10) * infarct
    share = occupancy(rough - distance, space.grey.clamp(0, 1), staining_ml, space.voxel_ml, 2.5)
    texture = (1 + 0.25 * draw.field("staining texture", space.grid, 5.0)[0]).clamp_min(0.3)
    return hu + draw.log_uniform("contrast", 12, 80) * share * texture
