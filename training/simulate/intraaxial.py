"""Where parenchymal hemorrhage lies: ellipsoids around the territory's centre, with rough margins and satellites.

Centres are ICBM152 coordinates of the nuclei, right side; axes, jitters and noise amplitudes are assumed.
"""

import math

import torch
from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.region import length_mm, nearest, smoothed
from training.simulate.space import Space
from training.simulate.spec import Lesion

Point = tuple[float, float, float]

CENTRES: dict[str, Point] = {
    "putamen": (27.0, 0.0, 3.0),
    "thalamus": (12.0, -18.0, 8.0),
    "caudate": (13.0, 12.0, 11.0),
    "cerebellum": (20.0, -62.0, -34.0),
    "brainstem": (0.0, -26.0, -32.0),
}
AXES: dict[str, Point] = {  # relative half axes: left-right, antero-posterior, cranio-caudal
    "putamen": (0.75, 1.4, 1.0),
    "thalamus": (0.95, 1.1, 0.95),
    "caudate": (0.8, 1.15, 1.1),
    "lobar": (0.9, 1.25, 0.9),
    "cerebellum": (1.2, 1.0, 0.85),
    "brainstem": (1.2, 0.85, 1.0),
}
INFRATENTORIAL = ("cerebellum", "brainstem")


def radius_mm(volume_ml: float) -> float:
    """Of the ball of this volume."""
    return float((3000 * volume_ml / (4 * math.pi)) ** (1 / 3))


def lateral_mm(space: Space, side: int) -> Tensor:
    """Distance from the midline towards `side` (+1 left), or towards either side where it is 0."""
    x = space.mni_mm[0]
    return x.mul(-side) if side else x.abs()


def above_tentorium_mm(space: Space) -> Tensor:
    """Height above a tentorium drawn as a tent (assumed): apex at the vermis, sloping outwards; large in front."""
    x, y, z = space.mni_mm.unbind()
    return z + 3 + 0.5 * x.abs() + (y + 38).clamp_min(0)


def centre(lesion: Lesion, space: Space, draw: Draw) -> Point:
    """Where the bleeding started. `space` is the whole head, coarse or fine."""
    if lesion.site == "lobar":
        return _lobar_centre(lesion, space, draw)
    x, y, z = CENTRES[lesion.site]
    spread = 1.5 if lesion.site == "brainstem" else 3.0
    dx, dy, dz = (draw.normals("centre", 3) * spread).tolist()
    outwards = 0.15 * radius_mm(lesion.volume_ml) if lesion.site == "putamen" else 0.0  # large ones bulge to the insula
    return -lesion.side * (x + outwards) + dx, y + dy, z + dz


def _lobar_centre(lesion: Lesion, space: Space, draw: Draw) -> Point:
    reach = 6 + 0.45 * radius_mm(max(lesion.volume_ml, lesion.followup_ml))
    lateral = lateral_mm(space, lesion.side)
    good = (space.white > 0.5) & (space.depth_mm > reach) & (space.depth_mm < reach + 16) & (lateral > 10)
    _, y, z = space.mni_mm.unbind()
    deep = (lateral / 34).square() + ((y + 8) / 44).square() + ((z - 6) / 26).square() < 1  # nuclei and ventricles
    good &= ~deep & (above_tentorium_mm(space) > 6)
    taste = draw.field("lobe", space.grid, 14.0)[0]
    return nearest(space, torch.where(good, taste, space.white * (lateral > 10) - 1000.0))


def potential(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    """About mm inside the margin (D, H, W), negative outside; any level of it is this hemorrhage at some volume."""
    radius = radius_mm(lesion.volume_ml or lesion.followup_ml)
    places = space.mni_mm.reshape(3, -1)
    whole = torch.full_like(places[0], -1e4)
    for middle, axes in _ellipsoids(lesion, at, radius, draw):
        blend_mm = 0.1 * radius
        whole = torch.logaddexp(whole / blend_mm, _inside_mm(places, middle, axes) / blend_mm) * blend_mm
    whole = whole.reshape(space.grid.shape) + _roughness(lesion, radius, space, draw) - _avoided_mm(space)
    lateral = lateral_mm(space, lesion.side) if lesion.side else whole.new_tensor(0.0)
    height = above_tentorium_mm(space)
    if lesion.site == "brainstem":
        return whole
    wrong_side_of_tentorium = height if lesion.site in INFRATENTORIAL else -height
    return whole - 1.5 * (-lateral).clamp_min(0) - 2 * wrong_side_of_tentorium.clamp_min(0)


def _inside_mm(places: Tensor, middle: Tensor, axes: Tensor) -> Tensor:
    """`axes` is (3, 3): rows are the directions of the half axes divided by their lengths."""
    size = axes.det().abs() ** (-1 / 3)
    return size * (1 - length_mm(axes @ places - (axes @ middle)[:, None]))


def _ellipsoids(lesion: Lesion, at: Point, radius: float, draw: Draw) -> list[tuple[Tensor, Tensor]]:
    middle = torch.tensor(at, device=draw.device)
    parts = [(middle, _axes(lesion, "main", radius, draw))]
    lobes = int(draw.uniform("lobes", 0.0, 1.5 + 3.4 * lesion.irregularity))
    for n in range(lobes):
        size = radius * draw.uniform(f"lobe {n} size", 0.45, 0.8)
        away = draw.normals(f"lobe {n} place", 3) * 0.55 * radius
        parts.append((middle + away, _axes(lesion, f"lobe {n}", size, draw)))
    parts += [_satellite(n, parts[: lobes + 1], middle, radius, draw) for n in range(lesion.satellites)]
    return parts


def _satellite(
    n: int, hematoma: list[tuple[Tensor, Tensor]], middle: Tensor, radius: float, draw: Draw
) -> tuple[Tensor, Tensor]:
    """A small ball a few mm off the margin, more often beside than above the hematoma."""
    away = draw.normals(f"satellite {n}", 3) * torch.tensor((1.0, 1.0, 0.4), device=draw.device)
    away = away / away.norm()
    steps = torch.arange(0.0, 4 * radius, 0.5, device=draw.device)
    ray = middle[:, None] + away[:, None] * steps
    inside = torch.stack([_inside_mm(ray, *part) for part in hematoma]).amax(0) > 0
    size = max(2.0, radius * draw.uniform(f"satellite {n} size", 0.1, 0.25))
    gap = draw.uniform(f"satellite {n} gap", 3.0, 7.0)
    margin = float((steps * inside).max())
    return middle + away * (margin + gap + size), torch.eye(3, device=draw.device) / size


def _axes(lesion: Lesion, name: str, radius: float, draw: Draw) -> Tensor:
    shape = torch.tensor(AXES[lesion.site], device=draw.device)
    shape = shape * (0.12 * draw.normals(f"{name} axes", 3)).exp()
    shape = shape * radius / shape.prod() ** (1 / 3)
    turn = draw.normals(f"{name} turn", 3) * (0.7 if lesion.site == "lobar" else 0.25)
    if lesion.site == "putamen":
        turn = turn + torch.tensor((0.0, 0.0, 0.3 * lesion.side), device=draw.device)  # along the external capsule
    spin = turn.new_zeros(3, 3)
    spin[0, 1], spin[0, 2], spin[1, 2] = -turn[2], turn[1], -turn[0]
    rotation: Tensor = torch.linalg.matrix_exp(spin - spin.T)
    return rotation.T / shape[:, None]


def _roughness(lesion: Lesion, radius: float, space: Space, draw: Draw) -> Tensor:
    grade = lesion.irregularity
    scales = ((max(0.9 * radius, 9.0), 0.05 + 0.22 * grade), (max(0.4 * radius, 7.0), 0.02 + 0.10 * grade))
    rough = (0.3 + 0.9 * grade) * draw.field("margin fine", space.grid, 5.0)[0]
    for n, (scale, share) in enumerate(scales):
        rough = rough + share * radius * draw.field(f"margin {n}", space.grid, scale)[0]
    return rough * min(1.0, radius / 6)


def _avoided_mm(space: Space) -> Tensor:
    """Blood stays in tissue; sulci and fissures within a large hematoma are closed."""
    tissue = smoothed(space.grey + space.white, 7.0, space.grid.spacing_mm)
    return 7 * (1.25 - 1.75 * tissue).clamp(0, 1)


def allowed(lesion: Lesion, space: Space) -> Tensor:
    """(D, H, W) 0-1: inside the skull, but not in ventricles."""
    return (1 - 2 * space.ventricle).clamp(0, 1) * (space.depth_mm > 0.5)
