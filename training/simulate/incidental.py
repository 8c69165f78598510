"""Incidental: bright and dark things that are not hemorrhage: calcification, vessels, infarct, tumour, scalp swelling.

They are what a network that only knows clean brains calls blood. Sizes and HU are assumed, from textbook ranges.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from training.simulate.anatomy import nearness
from training.simulate.draw import Draw
from training.simulate.region import Window, bounds, stride
from training.simulate.scene import Point, Scene, along, beside
from training.simulate.space import Space
from training.simulate.surgery import air_inside, drain, opened_skull

_COARSE_MM, _MARGIN_MM = 4.0, 6.0  # small things are painted in a box of the grid, found on a coarser one

# Of the pallidum and the dentate nucleus they are on both sides and small: a faint ball on one side would be read as
# hemorrhage, and a network must not learn to leave it alone (docs/decisions 28)
_SPOTS: tuple[tuple[str, float, Point, tuple[float, float], tuple[float, float]], ...] = (
    # name, probability, ICBM152 place (x mirrored), radius mm, HU added
    ("pineal", 0.6, (0, -29, 3), (1.0, 4.0), (40, 350)),
    ("choroid", 0.55, (22, -42, 10), (1.5, 5.0), (60, 350)),
    ("pallidum", 0.12, (18, -4, 0), (1.0, 3.5), (40, 250)),
    ("dentate", 0.05, (16, -56, -34), (1.0, 3.5), (40, 250)),
    ("carotid", 0.4, (11, 2, -30), (1.0, 2.5), (80, 600)),
    ("vertebral", 0.25, (6, -34, -56), (1.0, 2.0), (80, 500)),
    ("falx plaque", 0.15, (0, 10, 50), (1.0, 4.0), (100, 700)),
    ("habenula", 0.1, (2, -24, 3), (0.8, 1.5), (40, 150)),
)
_ALWAYS_PAIRED = ("pallidum", "dentate")
_VESSELS: tuple[tuple[str, Point, Point, float], ...] = (
    ("basilar", (0, -12, -16), (0, -26, -44), 1.7),
    ("middle cerebral right", (8, 2, -18), (34, 4, -16), 1.4),
    ("middle cerebral left", (-8, 2, -18), (-34, 4, -16), 1.4),
    ("anterior cerebral", (0, 6, -16), (0, 32, 6), 1.1),
    ("great vein", (0, -34, 2), (0, -46, 6), 2.0),
    ("straight sinus", (0, -46, 4), (0, -80, -8), 2.2),
)


def paint_incidental(hu: Tensor, covered: Tensor, space: Space, draw: Draw, age: float, *, operated: bool) -> Tensor:
    """The head with its incidental findings."""
    painters: list[Callable[[Scene], Tensor]] = [_white_matter_disease(age), _infarcts, _vessels, _spots]
    painters += [_scalp_swelling, _swollen_brain, _mass]
    painters += [opened_skull, drain, air_inside] if operated else []
    for paint in painters:
        hu = paint(Scene(space=space, draw=draw, hu=hu, covered=covered))
    return hu


def _box(space: Space, start: Point, end: Point, reach_mm: float) -> Window | None:
    """The part of the grid around a line in atlas space; None where the grid does not reach it."""
    coarse = stride(space, _COARSE_MM)
    inside = torch.ones_like(space.depth_mm[coarse], dtype=torch.bool)
    for place, s, e in zip(space.mni_mm, start, end, strict=True):
        thin = place[coarse]
        inside &= (thin > min(s, e) - reach_mm) & (thin < max(s, e) + reach_mm)
    return bounds(inside, coarse, space.grid.shape)


def _spots(scene: Scene) -> Tensor:
    """Calcifications where they are common."""
    hu, draw, space = scene.hu.clone(), scene.draw, scene.space
    for name, probability, centre, radii, added in _SPOTS:
        if not draw.chance(name, probability):
            continue
        paired = centre[0] and (name in _ALWAYS_PAIRED or draw.chance(f"{name} paired", 0.8))
        for side in (1, -1) if paired else (draw.choice(f"{name} side", (1, -1)),):
            x, y, z = (
                c * s + draw.normal(f"{name} {side} {a}", 0, 1.5)
                for c, s, a in zip(centre, (side, 1, 1), "xyz", strict=True)
            )
            radius = draw.uniform(f"{name} {side} radius", *radii)
            if (window := _box(space, (x, y, z), (x, y, z), radius + _MARGIN_MM)) is None:
                continue
            offsets = space.mni_mm[(slice(None), *window)] - torch.tensor((x, y, z), device=hu.device).view(3, 1, 1, 1)
            ball = torch.sigmoid((radius - offsets.square().sum(0).sqrt()) / 0.5)
            hu[window] += ball * draw.log_uniform(f"{name} {side} hu", *added)
    return hu


def _vessels(scene: Scene) -> Tensor:
    """Arteries and veins, denser in thrombosis and with a high hematocrit."""
    draw, space, hu = scene.draw, scene.space, scene.hu.clone()
    blood_hu = draw.normal("vessel blood", 44, 5)
    for name, start, end, radius in _VESSELS:
        dense = blood_hu + (draw.uniform(f"{name} clot", 8, 30) if draw.chance(f"{name} dense", 0.07) else 0)
        if (window := _box(space, start, end, radius + _MARGIN_MM)) is None:
            continue
        place = space.mni_mm[(slice(None), *window)]
        t = along(place, start, end).clamp(0, 1)
        bend = draw.normal(f"{name} bend", 0, 2) * torch.sin(3.14 * t)
        distance = beside(place, start, end, t, bend)
        share = torch.sigmoid((radius * draw.uniform(f"{name} radius", 0.7, 1.3) - distance) / 0.4)
        share = share * (space.depth_mm[window] > 0) * (1 - scene.covered[window])
        hu[window] = torch.lerp(hu[window], hu[window].clamp_min(dense), share)
    return hu


def _white_matter_disease(age: float) -> Callable[[Scene], Tensor]:
    def paint(scene: Scene) -> Tensor:
        """Leukoaraiosis: dark white matter around the ventricles, with age (assumed)."""
        draw, space = scene.draw, scene.space
        amount = max(0.0, draw.normal("leukoaraiosis", (age - 50) / 40, 0.6))
        if amount <= 0.05:
            return scene.hu
        reach_mm = draw.uniform("leukoaraiosis reach", 10, 26)
        near = (nearness(space.ventricle, space.grid, reach_mm) * 5).clamp_max(1)
        patchy = torch.sigmoid(2 * draw.field("leukoaraiosis patches", space.grid, 15.0)[0] + 3 * near - 2)
        return scene.hu - 12 * min(amount, 1.4) * space.white * patchy * near * (1 - scene.covered)

    return paint


def _somewhere(draw: Draw, name: str) -> Point:
    return (draw.uniform(f"{name} x", -58, 58), draw.uniform(f"{name} y", -85, 50), draw.uniform(f"{name} z", -35, 65))


def _infarcts(scene: Scene) -> Tensor:
    """Old and new infarcts: wedge-like loss of brain, or only its grey."""
    draw, space, hu = scene.draw, scene.space, scene.hu
    for number in range(draw.choice("infarcts", (0, 1, 2, 3), (0.5, 0.28, 0.14, 0.08))):
        name = f"infarct {number}"
        radius = draw.log_uniform(f"{name} radius", 3, 35)
        x, y, z = (c - m for c, m in zip(space.mni_mm, _somewhere(draw, name), strict=True))
        rough = draw.field(f"{name} shape", space.grid, max(6.0, radius / 2))[0] * radius * 0.35
        share = torch.sigmoid((radius - torch.sqrt(x**2 + (0.8 * y) ** 2 + z**2) + rough) / 1.5)
        to = draw.uniform(f"{name} hu", 6, 30)
        tissue = space.grey + space.white
        hu = torch.lerp(hu, hu.clamp_max(to + 0 * hu), share * tissue * (1 - scene.covered))
    return hu


def _swollen_brain(scene: Scene) -> Tensor:
    """Diffuse or one-sided low density, as in swelling: grey and white look alike."""
    draw, space = scene.draw, scene.space
    if not draw.chance("swollen", 0.06):
        return scene.hu
    side = torch.sigmoid(draw.choice("swollen side", (-1, 0, 1)) * space.mni_mm[0] / 5)
    tissue = (space.grey + space.white) * (1 - scene.covered)
    return scene.hu - side * tissue * draw.uniform("swollen by", 2, 10)


def _mass(scene: Scene) -> Tensor:
    """A tumour: hardly brighter than white matter, round, with edema; others nobody could tell from hemorrhage here."""
    draw, space = scene.draw, scene.space
    if not draw.chance("mass", 0.05):
        return scene.hu
    centre, radius = _somewhere(draw, "mass"), draw.uniform("mass radius", 5, 22)
    x, y, z = (c - m for c, m in zip(space.mni_mm, centre, strict=True))
    rough = draw.field("mass shape", space.grid, 12.0)[0] * radius * 0.2
    distance = torch.sqrt(x**2 + y**2 + z**2) + rough
    inside = (space.depth_mm > 0) * (1 - scene.covered)
    edema = torch.sigmoid((radius * draw.uniform("mass edema", 1.0, 1.8) - distance) / 2) * space.white
    hu = scene.hu - 10 * edema * inside
    share = torch.sigmoid((radius - distance) / 1.0) * inside
    white_hu = (scene.hu * space.white).sum() / space.white.sum()
    mass_hu = white_hu + draw.uniform("mass above white", -14, 3)
    return torch.lerp(hu, mass_hu + 2 * draw.field("mass texture", space.grid, 6.0)[0], share)


def _scalp_swelling(scene: Scene) -> Tensor:
    """Blood or fluid under the scalp, outside the skull: bright, and no intracranial hemorrhage."""
    draw, space = scene.draw, scene.space
    if not draw.chance("scalp swelling", 0.12):
        return scene.hu
    centre = (
        draw.choice("swelling side", (-1, 1)) * draw.uniform("swelling x", 20, 75),
        draw.uniform("swelling y", -95, 75),
        draw.uniform("swelling z", -10, 70),
    )
    x, y, z = (c - m for c, m in zip(space.mni_mm, centre, strict=True))
    near = torch.sigmoid((draw.uniform("swelling radius", 15, 45) - torch.sqrt(x**2 + y**2 + z**2)) / 3)
    outside = ((space.depth_mm < -4) & (scene.hu < 120) & (scene.hu > -300)).float()
    return torch.lerp(scene.hu, draw.uniform("swelling hu", 20, 75) + 0 * scene.hu, near * outside)
