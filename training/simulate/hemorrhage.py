"""Hemorrhage: paints lesions of exactly known volume into a head; solid clots first, then blood in CSF.

Every lesion is a potential, a smooth field that is high where blood goes first; the level at which it holds the wanted
millilitres is searched. Follow-up is a level of a slightly different potential, on top of the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType

import torch
from torch import Tensor

from training.data.manifest import TYPES
from training.simulate import cisternal, extraaxial, intraaxial
from training.simulate.blood import blood_hu
from training.simulate.draw import Draw
from training.simulate.edema import edema
from training.simulate.intraaxial import Point, radius_mm
from training.simulate.occupancy import occupancy
from training.simulate.region import Window, bounds, part, stride
from training.simulate.space import Space
from training.simulate.spec import Lesion

SHAPES: dict[str, ModuleType] = {
    "IPH": intraaxial,
    "IVH": cisternal,
    "SAH": cisternal,
    "SDH": extraaxial,
    "EDH": extraaxial,
}
SOLID, FLUID = ("EDH", "SDH", "IPH"), ("IVH", "SAH")  # also who comes first where two meet
SOFTNESS_MM = {"IPH": 0.8, "IVH": 0.8, "SAH": 1.5, "SDH": 0.7, "EDH": 0.5}  # half width of the margin
_COARSE_MM, _COARSE_MARGIN_MM = 4.0, 8.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hemorrhage:
    """What has been painted so far. Tensors are (D, H, W); they are filled in place by the stages."""

    share: Tensor  # float32 0-1: all blood together
    hu: Tensor  # float32: HU of the blood itself; composite as tissue * (1 - share) + hu * share
    occupancy: dict[str, Tensor] = field(default_factory=dict)  # share by type, of the types present
    edema_hu: Tensor  # float32, 0 or negative: to be added to the tissue around

    def by_type(self) -> Tensor:
        """(type, D, H, W): the share of every type in the order of TYPES, 0 for those that are absent."""
        return torch.stack([self.occupancy.get(kind, torch.zeros_like(self.share)) for kind in TYPES])


def nothing(space: Space) -> Hemorrhage:
    """A head without blood."""
    empty = torch.zeros_like(space.depth_mm)
    return Hemorrhage(share=empty, hu=torch.zeros_like(empty), edema_hu=torch.zeros_like(empty))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """What the painting of a lesion depends on beside the lesion."""

    followup: bool
    hematocrit: float  # fraction
    hours_later: float  # after the first CT


def solid(
    lesions: Sequence[Lesion], space: Space, draw: Draw, *, followup: bool, hematocrit: float, followup_h: float = 24.0
) -> Hemorrhage:
    """Parenchymal, subdural and epidural blood, in undisturbed coordinates; edema of the parenchymal ones."""
    painted = nothing(space)
    _paint_all(SOLID, lesions, painted, space, draw, _scan(followup, hematocrit, followup_h))
    return painted


def fluid(
    lesions: Sequence[Lesion],
    displaced: Space,
    draw: Draw,
    onto: Hemorrhage,
    *,
    followup: bool,
    hematocrit: float,
    followup_h: float = 24.0,
) -> Hemorrhage:
    """Adds blood in ventricles, cisterns and sulci to `onto`, where these lie after displacement."""
    _paint_all(FLUID, lesions, onto, displaced, draw, _scan(followup, hematocrit, followup_h))
    return onto


def _scan(followup: bool, hematocrit: float, followup_h: float) -> _Scan:
    return _Scan(followup=followup, hematocrit=hematocrit, hours_later=followup_h if followup else 0.0)


def _paint_all(
    types: tuple[str, ...], lesions: Sequence[Lesion], onto: Hemorrhage, space: Space, draw: Draw, scan: _Scan
) -> None:
    for wanted in types:
        for index, lesion in enumerate(lesions):
            if lesion.type == wanted:
                own = replace(draw, seed=int(draw.uniform(f"lesion {index}", 0, 2**52)))
                _paint(lesion, onto, space, own, scan)


def potential(lesion: Lesion, at: Point, space: Space, draw: Draw) -> Tensor:
    """About mm inside the margin (D, H, W); `at` comes from the `centre` of the shape's module."""
    shape: Tensor = SHAPES[lesion.type].potential(lesion, at, space, draw)
    return shape


def growth(lesion: Lesion, space: Space, draw: Draw) -> Tensor:
    """To be added to the potential for the follow-up (D, H, W): the directions that the blood grows to."""
    growth_mm = max(0.0, radius_mm(lesion.followup_ml) - radius_mm(lesion.volume_ml))
    return 1.5 * growth_mm * draw.field("growth", space.grid, max(14.0, 0.9 * radius_mm(lesion.volume_ml)))[0]


def _paint(lesion: Lesion, onto: Hemorrhage, space: Space, draw: Draw, scan: _Scan) -> None:
    coarse = stride(space, _COARSE_MM)
    at: Point = SHAPES[lesion.type].centre(lesion, part(space, coarse), draw)
    wanted_ml = lesion.followup_ml if scan.followup else lesion.volume_ml
    window = _window(lesion, at, space, coarse, draw) if wanted_ml > 0 else None
    if window is None:
        return
    here = part(space, window)
    share, height = _share(lesion, at, here, 1 - onto.share[window], draw, scan.followup)
    aged = replace(lesion, age_h=lesion.age_h + scan.hours_later)
    hu = blood_hu(aged, here, draw, share, scan.hematocrit)
    if lesion.type == "IPH":
        edema_ml = lesion.followup_edema_ml if scan.followup else lesion.edema_ml
        onto.edema_hu[window] += edema(edema_ml, height, share, here, draw)
    _merge(lesion.type, share, hu, onto, window)


def _share(lesion: Lesion, at: Point, here: Space, free: Tensor, draw: Draw, followup: bool) -> tuple[Tensor, Tensor]:
    """Occupancy at baseline, or at follow-up on top of the baseline if it has grown, and its potential."""
    soft, voxel_ml = SOFTNESS_MM[lesion.type], here.voxel_ml
    allowed = SHAPES[lesion.type].allowed(lesion, here) * free
    height = potential(lesion, at, here, draw)
    grown = followup and lesion.followup_ml > lesion.volume_ml
    first_ml = lesion.followup_ml if followup and not grown else lesion.volume_ml
    share = occupancy(height, allowed, first_ml, voxel_ml, soft) if first_ml > 0 else torch.zeros_like(allowed)
    if not grown:
        return share, height
    height = height + growth(lesion, here, draw)
    return occupancy(height, allowed, lesion.followup_ml, voxel_ml, soft, share), height


def _window(lesion: Lesion, at: Point, space: Space, coarse: Window, draw: Draw) -> Window | None:
    """Around all voxels that the lesion may reach by follow-up, edema included, from a coarse look."""
    thin = part(space, coarse)
    room = SHAPES[lesion.type].allowed(lesion, thin)
    total_ml = max(lesion.volume_ml + lesion.edema_ml, lesion.followup_ml + lesion.followup_edema_ml)
    height = potential(lesion, at, thin, draw)
    wanted = torch.zeros_like(room, dtype=torch.bool)
    for stage in (height, height + growth(lesion, thin, draw)):
        held = occupancy(stage, room, total_ml, thin.voxel_ml, SOFTNESS_MM[lesion.type]) > 0
        level = stage[held].min() if bool(held.any()) else stage.max()
        wanted |= (stage > level - _COARSE_MARGIN_MM) & (room > 0)
    return bounds(wanted, coarse, space.grid.shape)


def _merge(type_: str, share: Tensor, hu: Tensor, onto: Hemorrhage, window: Window) -> None:
    before = onto.share[window].clone()
    total = before + share
    mixed = (onto.hu[window] * before + hu * share) / total.clamp_min(1e-6)
    onto.hu[window] = torch.where(share > 0, mixed, onto.hu[window])
    onto.share[window] = total
    kind = onto.occupancy.setdefault(type_, torch.zeros_like(onto.share))
    kind[window] += share
