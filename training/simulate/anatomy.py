"""Anatomy: one patient's head: atlas, pose, size and shape of the patient, tissue in HU, without hemorrhage.

HU of brain, CSF, bone and fat are common textbook ranges, drawn wide; where a tissue has a source it stands beside it.
"""

from dataclasses import dataclass
from math import cos, exp, radians, sin

import torch
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.resample import CanonicalGrid
from training.simulate.atlas import Atlas
from training.simulate.draw import Draw
from training.simulate.space import Space
from training.simulate.styles import Style

CENTRE_MNI = (0.0, -18.0, 4.0)  # where the middle of the patient's LPS space lies in the atlas
_VENTRICLES_MNI = (0.0, -12.0, 8.0)
AIR_HU = -1000.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """One patient's head on one grid, before any hemorrhage."""

    draw: Draw
    grid: CanonicalGrid
    atlas: Atlas
    style: Style
    age: float
    mni_mm: Tensor  # (3, D, H, W): where each voxel lies in the atlas, undisturbed
    shell: dict[str, Tensor]  # the atlas's shell there; no hemorrhage moves it

    def space(self, displacement_mm: Tensor | None = None) -> Space:
        """The anatomy at each voxel, with tissue pushed aside by `displacement_mm` (3, D, H, W; MNI axes)."""
        place = self.mni_mm if displacement_mm is None else self.mni_mm - displacement_mm
        brain = self.atlas.brain.at(_towards_ventricles(place, self._ventricle_size()))
        share = brain["grey"] + brain["white"]
        kept = torch.sigmoid((share - self._sulci()) / 0.12) / share.clamp_min(0.05)
        inside = torch.sigmoid(self.shell["depth"] / 0.5)
        grey, white = brain["grey"] * kept * inside, brain["white"] * kept * inside
        ventricle = torch.minimum(brain["ventricle"] * inside * 1.2, 1 - grey - white).clamp_min(0)
        csf = (inside - grey - white - ventricle).clamp_min(0)
        return Space(
            grid=self.grid,
            mni_mm=place,
            depth_mm=self.shell["depth"],
            grey=grey,
            white=white,
            ventricle=ventricle,
            csf=csf,
        )

    def tissue_hu(self, space: Space) -> Tensor:
        """(D, H, W): HU of every voxel of the undisturbed or displaced head."""
        outside = self._outside_hu(space.depth_mm)
        inside = self._brain_hu(space)
        share = torch.sigmoid(space.depth_mm / 0.5)
        return torch.lerp(outside, inside, share)

    def _aged(self) -> float:
        """0 for young adults to 1 at ninety."""
        return min(max((self.age - 30) / 60, 0.0), 1.0)

    def _sulci(self) -> float:
        """Share of brain below which a voxel of the averaged atlas is sulcus: wider with age."""
        return min(max(self.draw.normal("sulci", 0.34 + 0.28 * self._aged(), 0.10), 0.15), 0.85)

    def _ventricle_size(self) -> float:
        """Share by which the middle of the brain is stretched: below 0 slit-like, above 0 wide ventricles."""
        return min(max(self.draw.normal("ventricle size", -0.08 + 0.28 * self._aged(), 0.13), -0.3), 0.5)

    def _brain_hu(self, space: Space) -> Tensor:
        draw = self.draw
        grey_hu = draw.normal("grey", 37.0, 2.5)
        white_hu = grey_hu - max(draw.normal("grey minus white", 7.0, 2.3), 1.5)
        csf_hu = draw.normal("csf", 7.0, 3.0)
        uneven = draw.field("uneven", space.grid, 30.0)[0] * draw.uniform("unevenness", 0.3, 3.0)
        uneven = uneven + draw.field("mottled", space.grid, 10.0)[0] * draw.uniform("mottling", 0.0, 2.0)
        hu = space.grey * (grey_hu + uneven) + space.white * (white_hu + uneven)
        hu = hu + (1 - space.grey - space.white) * csf_hu
        return hu + self._dura(space)

    def _dura(self, space: Space) -> Tensor:
        """What falx, tentorium and the venous sinuses add to CSF."""
        x, y, z = space.mni_mm
        draw = self.draw
        fluid = space.csf + 0.4 * space.grey
        vault = torch.sigmoid((z - 8) / 4) + torch.sigmoid((-y - 60) / 5) * torch.sigmoid((z + 6) / 4)
        falx = torch.exp(-((x / draw.uniform("falx thickness", 0.6, 1.3)) ** 2)) * vault.clamp_max(1)
        height = 4 - 0.5 * x.abs() - 0.25 * (y + 50).abs()
        back = torch.sigmoid((-y - 32) / 3)
        tentorium = torch.exp(-(((z - height) / 1.8) ** 2)) * back * 0.8
        sagittal = torch.exp(-((x / 4) ** 2) - ((space.depth_mm - 3) / 3) ** 2) * torch.sigmoid((z - 5) / 5)
        transverse = torch.exp(-(((z + 22) / 5) ** 2) - ((space.depth_mm - 3) / 3) ** 2) * torch.sigmoid((-y - 45) / 5)
        blood_hu = draw.normal("sinus blood", 50.0, 7.0)
        membrane = torch.exp(-((space.depth_mm / 1.2) ** 2)) * 0.6
        return fluid * (
            32 * torch.maximum(falx, torch.maximum(tentorium, membrane))
            + (blood_hu - 8) * torch.maximum(sagittal, transverse)
        )

    def _outside_hu(self, depth_mm: Tensor) -> Tensor:
        """Skull, scalp, face and air."""
        draw = self.draw
        maps = self.shell
        coarse, fine = draw.field("skull", self.grid, 35.0)[0], draw.field("diploe", self.grid, 5.0)[0]
        out = -depth_mm
        thickness = (draw.uniform("skull thickness", *self.style.skull_mm) * (1 + 0.18 * coarse)).clamp_min(2.0)
        skin = maps["skin"] - draw.uniform("scalp", *self.style.scalp_mm) + 0.8 * coarse
        vault = torch.sigmoid((thickness - out) / 0.5)
        bone = torch.maximum(vault, maps["bone"])
        middle = torch.exp(-(((out / thickness - 0.5) / 0.22) ** 2)) * vault
        cortical, spongy = draw.uniform("cortical", 900, 1700), draw.uniform("spongy", 150, 800)
        bone_hu = cortical - (cortical - spongy) * middle + draw.uniform("bone texture", 20, 120) * fine
        soft = self._soft_hu(maps, out - thickness, skin, fine)
        hu = torch.lerp(soft, bone_hu, bone)
        filled = draw.uniform("sinuses opaque") < 0.15
        sinus_hu = draw.uniform("sinus fluid", 10, 45) if filled else AIR_HU
        pneumatised = torch.sigmoid(
            (draw.field("air cells", self.grid, 25.0)[0] + draw.normal("aeration", 1.0, 1.0)) * 3
        )
        hu = torch.lerp(hu, torch.full_like(hu, sinus_hu), maps["air"] * pneumatised)
        return torch.lerp(torch.full_like(hu, AIR_HU), hu, torch.sigmoid(skin / 0.5))

    def _soft_hu(self, maps: dict[str, Tensor], above_skull: Tensor, skin: Tensor, fine: Tensor) -> Tensor:
        """Skin, fat and muscle."""
        draw = self.draw
        x, y, z = self.mni_mm
        fat_hu, muscle_hu = draw.uniform("fat", -115, -70), draw.normal("muscle", 55, 6)
        near = torch.exp(-((above_skull / draw.uniform("galea", 1.0, 3.0)) ** 2))
        temple = (
            torch.sigmoid((x.abs() - 46) / 4) * torch.sigmoid((22 - z) / 6) * torch.sigmoid((38 - (y - 5).abs()) / 6)
        )
        lean = torch.maximum(near * 0.7, temple * 0.9)
        lean = torch.maximum(lean * (1 - maps["fat"]), maps["muscle"])
        lean = torch.maximum(lean, torch.sigmoid((2.0 - skin) / 0.5))
        return fat_hu + (muscle_hu - fat_hu) * lean + 6 * fine


def head(draw: Draw, grid: CanonicalGrid, atlas: Atlas, style: Style, age: float) -> Head:
    """The head of the patient whose choices are `draw`."""
    place = _places(draw, grid, style)
    shell = atlas.shell.at(place)
    return Head(draw=draw, grid=grid, atlas=atlas, style=style, age=age, mni_mm=place, shell=shell)


def lps_mm(grid: CanonicalGrid, device: str) -> Tensor:
    """(3, D, H, W): x, y and z of every voxel in the patient's LPS space."""
    z, y, x = (
        origin + spacing * torch.arange(count, device=device, dtype=torch.float32)
        for origin, spacing, count in zip(grid.origin_lps[::-1], grid.spacing_mm, grid.shape, strict=True)
    )
    return torch.stack(torch.meshgrid(z, y, x, indexing="ij")).flip(0)


def _places(draw: Draw, grid: CanonicalGrid, style: Style) -> Tensor:
    """ICBM152 place of every voxel: pose, size, then smooth differences in shape."""
    pitch, roll, yaw = (
        radians(draw.normal(name, 0, degrees))
        for name, degrees in (("pitch", style.pitch_deg), ("roll", 5.0), ("yaw", 6.0))
    )
    turn = _about(0, pitch) @ _about(1, roll) @ _about(2, yaw)
    size = draw.normal("size", 0.97, 0.045)
    scale = torch.diag(torch.tensor([1 / (size * exp(draw.normal(f"size {axis}", 0, 0.035))) for axis in "xyz"]))
    to_ras = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    matrix = (scale @ turn @ to_ras).to(draw.device)
    shift = torch.tensor([draw.normal(f"shift {axis}", 0, mm) for axis, mm in zip("xyz", (3, 5, 6), strict=True)])
    centre = (torch.tensor(CENTRE_MNI) + shift).to(draw.device)
    place = torch.einsum("ab,bdhw->adhw", matrix, lps_mm(grid, draw.device)) + centre[:, None, None, None]
    shape = draw.field("shape", grid, 55.0, channels=3) * style.shape_mm
    detail = draw.field("detail", grid, 22.0, channels=3) * style.detail_mm
    return place + shape + detail


def _about(axis: int, angle: float) -> Tensor:
    """Rotation matrix about x, y or z."""
    matrix = torch.eye(3)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[a, a] = matrix[b, b] = cos(angle)
    matrix[a, b], matrix[b, a] = -sin(angle), sin(angle)
    return matrix


def _towards_ventricles(place: Tensor, stretch: float) -> Tensor:
    """Places drawn towards the middle of the brain, which makes what lies there larger."""
    middle = torch.tensor(_VENTRICLES_MNI, device=place.device)[:, None, None, None]
    offset = place - middle
    near = torch.exp(-(offset.square().sum(0, keepdim=True) / (2 * 32.0**2)))
    return middle + offset * (1 - stretch * near)


def nearness(x_dhw: Tensor, grid: CanonicalGrid, reach_mm: float) -> Tensor:
    """(D, H, W): a mean over about `reach_mm`, cheap nearness to a structure."""
    coarse = [max(2, round(n * d / reach_mm)) for n, d in zip(grid.shape, grid.spacing_mm, strict=True)]
    mean = functional.interpolate(x_dhw[None, None], coarse, mode="area")
    return functional.interpolate(mean, grid.shape, mode="trilinear", align_corners=False)[0, 0]
