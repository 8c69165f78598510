"""Patient: one simulated patient's head CT at the first scan or at follow-up, with the truth beside it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ichnode.imaging.resample import CanonicalGrid
from training.simulate import anatomy, hemorrhage
from training.simulate.atlas import Atlas
from training.simulate.draw import Draw
from training.simulate.hemorrhage import Hemorrhage
from training.simulate.incidental import paint_incidental
from training.simulate.mass_effect import displacement
from training.simulate.space import Space
from training.simulate.spec import PatientSpec
from training.simulate.staining import stained
from training.simulate.styles import Style


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedHead:
    """One head on its grid, (D, H, W), before any scanner saw it."""

    spec: PatientSpec
    grid: CanonicalGrid
    hu: Tensor  # float32
    occupancy: Tensor  # (type, D, H, W): share of each voxel that is blood, in the order of TYPES
    space: Space  # where everything lies, displaced


def simulate_head(
    spec: PatientSpec, grid: CanonicalGrid, atlas: Atlas, style: Style, *, followup: bool = False, device: str = "cpu"
) -> SimulatedHead:
    """The patient's head at the first CT, or at follow-up. Same seed and grid, same head on any device."""
    draw = Draw(seed=spec.seed, device=device)
    head = anatomy.head(draw, grid, atlas, style, spec.age)
    painted, space, _ = bled(spec, head.space(), head.space, draw, followup=followup)
    tissue = head.tissue_hu(space) + painted.edema_hu
    operated = draw.chance("operated", style.operated)
    tissue = paint_incidental(tissue, painted.share, space, draw, spec.age, operated=operated)
    tissue = stained(tissue, space, draw, staining_ml=spec.staining_ml, side=spec.staining_side)
    room = (tissue > -200).float()  # no blood in air that surgery let in
    hu = torch.lerp(tissue, painted.hu, painted.share.clamp(0, 1) * (tissue < 200) * room)
    return SimulatedHead(spec=spec, grid=grid, hu=hu, occupancy=painted.by_type() * room, space=space)


def bled(
    spec: PatientSpec, undisturbed: Space, give_way: Callable[[Tensor], Space], draw: Draw, *, followup: bool
) -> tuple[Hemorrhage, Space, Tensor | None]:
    """The patient's blood, where everything lies once it made room, and what `give_way` was asked: mm, MNI axes.

    None where nothing had to make room.
    """
    painted = hemorrhage.solid(
        spec.lesions, undisturbed, draw, followup=followup, hematocrit=spec.hematocrit, followup_h=spec.followup_h
    )
    space, moved_mm = undisturbed, None
    if bool(painted.share.any()):
        moved_mm = displacement(painted.share, undisturbed, draw.uniform("mass effect", 0.4, 1.0))
        space = give_way(moved_mm)
    painted = hemorrhage.fluid(
        spec.lesions, space, draw, painted, followup=followup, hematocrit=spec.hematocrit, followup_h=spec.followup_h
    )
    return painted, space, moved_mm
