"""Surgery: what an operation left: a missing or cut-out part of the vault, a ventricular drain, air inside the skull.

Sizes and HU are assumed, from textbook ranges.
"""

import torch
from torch import Tensor

from training.simulate.anatomy import AIR_HU
from training.simulate.scene import Scene, along, beside


def opened_skull(scene: Scene) -> Tensor:
    """Craniectomy or craniotomy: a part of the vault is missing, or cut out by a line."""
    draw, space = scene.draw, scene.space
    kind = draw.choice("skull opening", ("none", "flap missing", "flap", "burr hole"), (0.2, 0.35, 0.2, 0.25))
    if kind == "none":
        return scene.hu
    side = draw.choice("opening side", (-1, 1))
    centre = (
        side * draw.uniform("opening x", 35, 70),
        draw.uniform("opening y", -50, 45),
        draw.uniform("opening z", 5, 55),
    )
    radius = draw.uniform("burr radius", 5, 9) if kind == "burr hole" else draw.uniform("opening radius", 25, 58)
    x, y, z = (c - m for c, m in zip(space.mni_mm, centre, strict=True))
    distance = torch.sqrt(x**2 + y**2 + z**2)
    # with what bone adds to the voxels inside it: that rim would be read as blood
    vault = torch.sigmoid((-space.depth_mm + 2.5) / 0.3) * torch.sigmoid((14 + space.depth_mm) / 0.5) * (scene.hu > 48)
    gap = (distance - radius).abs() < draw.uniform("cut", 0.8, 2.0) if kind == "flap" else distance < radius
    gap = gap & (z > -15)
    scar = draw.uniform("opening hu", 10, 40) + 3 * draw.field("opening texture", space.grid, 8.0)[0]
    # near the vertex slices cut it at a slant and show it several times as thick: denser, it would be read as blood
    dura = torch.sigmoid((space.depth_mm + draw.uniform("dura mm", 0.5, 1.5)) / 0.3)
    return torch.lerp(scene.hu, torch.lerp(scar, draw.uniform("dura hu", 25, 45) + 0 * scar, dura), vault * gap)


def drain(scene: Scene) -> Tensor:
    """A ventricular drain: a bright tube, dark inside, from the vault to a ventricle."""
    draw, space = scene.draw, scene.space
    if not draw.chance("drain", 0.55):
        return scene.hu
    side = draw.choice("drain side", (-1, 1))
    start = (side * draw.uniform("drain x", 22, 40), draw.uniform("drain y", -5, 40), 85.0)
    end = (side * draw.uniform("tip x", 0, 14), draw.uniform("tip y", -5, 18), draw.uniform("tip z", 2, 18))
    t = along(space.mni_mm, start, end).clamp(-0.3, 1)
    distance = beside(space.mni_mm, start, end, t)
    wall, bore = torch.sigmoid((1.6 - distance) / 0.35), torch.sigmoid((0.7 - distance) / 0.3)
    hu = torch.lerp(scene.hu, draw.uniform("drain hu", 90, 500) + 0 * scene.hu, wall)
    return torch.lerp(hu, draw.choice("bore", (0.0, 10.0, AIR_HU)) + 0 * hu, bore)


def air_inside(scene: Scene) -> Tensor:
    """Air after surgery or fracture: it rises to the front of a supine head."""
    draw, space = scene.draw, scene.space
    if not draw.chance("air inside", 0.4):
        return scene.hu
    x, y, _ = space.mni_mm
    level = draw.uniform("air level", 35, 62)
    rim = torch.exp(-((space.depth_mm / draw.uniform("air depth", 2, 8)) ** 2)) * (space.depth_mm > 0)
    side = torch.sigmoid(draw.choice("air side", (-1, 0, 1)) * x / 4 + 1)
    share = torch.sigmoid((y - level + 3 * draw.field("air", space.grid, 12.0)[0]) / 1.5) * (rim > 0.4) * (side > 0.5)
    return torch.lerp(scene.hu, AIR_HU + 0 * scene.hu, share)
