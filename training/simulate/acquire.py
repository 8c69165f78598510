"""Acquire: a simulated head becomes a CT of axial slices as a PACS holds it, with the truth on the same slices."""

import hashlib
from dataclasses import dataclass, replace
from math import ceil, cos, radians, sin

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ichnode.domain.identity import derived_uid
from ichnode.imaging.resample import CanonicalGrid
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Volume
from training.simulate.draw import Draw
from training.simulate.patient import SimulatedHead
from training.simulate.scanner import scan
from training.simulate.spec import PatientSpec
from training.simulate.styles import Style

GRAFTED = "grafted"  # the style of a real head with simulated hemorrhage
_FINE_MM = 2.5  # thickness of the simulated planes that a slice averages, at most
_LEAST_TILT_DEG, _MOST_TILT_DEG = 4.0, 25.0
_COARSE_MM = 0.6  # smaller pixels are simulated two by two and enlarged: the atlas knows nothing finer than 1 mm


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a study cuts the head: slices `slice_mm` apart along the table (z), each as thick as they are apart."""

    slice_mm: float = 5.0
    pixel_mm: float = 0.45
    matrix: int = 512
    tilt_deg: float = 0.0  # gantry tilt about the x axis
    bottom_mm: float = -78.0  # lower border of the lowest slice, at the middle of its image
    slices: int = 32

    @property
    def planes_each(self) -> int:
        """Simulated planes in one slice."""
        return ceil(self.slice_mm / _FINE_MM)

    @property
    def margin(self) -> int:
        """Slices simulated beyond each end, into which tilted slices reach."""
        return ceil(self.matrix * self.pixel_mm / 2 * abs(sin(radians(self.tilt_deg))) / self.slice_mm)

    @property
    def enlarged(self) -> int:
        """Written pixels along one simulated pixel."""
        return 2 if self.pixel_mm < _COARSE_MM else 1

    @property
    def grid(self) -> CanonicalGrid:
        """What has to be simulated: upright, in fine planes; foreshortened rows where the gantry is tilted."""
        dz, size = self.slice_mm / self.planes_each, self.matrix // self.enlarged
        dx = self.pixel_mm * self.enlarged
        dy = dx * cos(radians(self.tilt_deg))
        lowest = self.bottom_mm - self.margin * self.slice_mm + dz / 2
        return CanonicalGrid(
            shape=((self.slices + 2 * self.margin) * self.planes_each, size, size),
            spacing_mm=(dz, dy, dx),
            origin_lps=(-dx * (size - 1) / 2, -dy * (size - 1) / 2, lowest),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedCT:
    """One CT of a simulated patient."""

    spec: PatientSpec
    style: str  # name of its `styles.Style`, or GRAFTED
    followup: bool
    volume: Volume
    labels: NDArray[np.uint8]  # (slice, row, column): 0 none, 1-5 the TYPES

    @property
    def name(self) -> str:
        """Of its folder, and of its study in a manifest."""
        return f"SIM-{self.spec.seed}-{'followup' if self.followup else 'first'}"


def protocol(seed: int, style: Style, slice_mm: float = 5.0) -> Protocol:
    """The protocol of a seed: field of view and coverage vary; some gantries are tilted as the head is nodded."""
    draw = Draw(seed=seed)
    field_mm = draw.choice("field of view", (220.0, 230.0, 240.0, 250.0), (0.25, 0.3, 0.2, 0.25))
    nodded_deg = draw.normal("pitch", 0, style.pitch_deg)  # the same draw as in anatomy
    tilt_deg = -nodded_deg * draw.uniform("gantry follows", 0.5, 1.1)
    tilted = draw.chance("gantry tilted", 0.6) and abs(tilt_deg) > _LEAST_TILT_DEG
    bottom, top = draw.uniform("bottom", -84, -70), draw.uniform("top", 84, 96)
    return Protocol(
        slice_mm=slice_mm,
        pixel_mm=round(field_mm / 512, 6),
        tilt_deg=round(min(max(tilt_deg, -_MOST_TILT_DEG), _MOST_TILT_DEG), 1) if tilted else 0.0,
        bottom_mm=round(bottom, 2),
        slices=round((top - bottom) / slice_mm),
    )


def acquire(head: SimulatedHead, how: Protocol, *, style: str, followup: bool = False) -> SimulatedCT:
    """The CT of a head that was simulated on `how.grid`. Same head, same CT."""
    seed = Draw(seed=head.spec.seed).uniform("scanned later" if followup else "scanned", 0, 2**52)
    draw = Draw(seed=int(seed), device=head.hu.device.type)
    planes = torch.cat([head.hu[None], head.occupancy])
    planes = _tilted(_enlarged(planes, how.enlarged), how)
    seen = scan(planes[0], planes[1:], draw, planes_each=how.planes_each, pixel_mm=how.pixel_mm, archived=True)
    return SimulatedCT(
        spec=head.spec,
        style=style,
        followup=followup,
        volume=named(seen.hu.cpu().numpy(), _acquisition_grid(how)),
        labels=seen.labels.cpu().numpy(),
    )


def named(hu: FloatArray, grid: AcquisitionGrid) -> Volume:
    """`hu` on `grid` under UIDs that follow from it, so that other pixels never come under the same UID."""
    content = hashlib.blake2b(hu.tobytes(), digest_size=16).hexdigest()
    uids = tuple(derived_uid("simulated", content, str(index)) for index in range(len(hu)))
    return Volume(hu=hu, grid=replace(grid, sop_instance_uids=uids))


def _enlarged(planes_cdhw: Tensor, by: int) -> Tensor:
    if by == 1:
        return planes_cdhw
    sizes = [n * by for n in planes_cdhw.shape[2:]]
    return torch.stack([functional.interpolate(one, sizes, mode="bilinear") for one in planes_cdhw[:, None]])[:, 0]


def _tilted(planes_cdhw: Tensor, how: Protocol) -> Tensor:
    """Each row from the planes that the tilted slices meet there, linear between two; the margin is used up."""
    if not how.margin:
        return planes_cdhw
    count, margin = how.slices * how.planes_each, how.margin * how.planes_each
    rise = -sin(radians(how.tilt_deg)) * how.pixel_mm * how.planes_each / how.slice_mm  # planes from row to row
    out = torch.empty((len(planes_cdhw), count, *planes_cdhw.shape[2:]), device=planes_cdhw.device)
    for row in range(how.matrix):
        first = margin + rise * (row - (how.matrix - 1) / 2)
        whole = min(int(first), planes_cdhw.shape[1] - count - 1)
        lower, upper = (planes_cdhw[:, start : start + count, row] for start in (whole, whole + 1))
        out[:, :, row] = torch.lerp(lower, upper, first - whole)
    return out


def _acquisition_grid(how: Protocol) -> AcquisitionGrid:
    """Where the slices are; nameless."""
    tilt, half = radians(how.tilt_deg), how.pixel_mm * (how.matrix - 1) / 2
    down = np.array([0.0, cos(tilt), -sin(tilt)])
    first = np.array([-half, 0, 0]) - half * down
    heights = how.bottom_mm + how.slice_mm * (np.arange(how.slices) + 0.5)
    return AcquisitionGrid(
        rows=how.matrix,
        columns=how.matrix,
        positions_lps=first + heights[:, None] * np.array([0.0, 0.0, 1.0]),
        row_direction_lps=np.array([1.0, 0.0, 0.0]),
        column_direction_lps=down,
        pixel_spacing_mm=(how.pixel_mm, how.pixel_mm),
        slice_thickness_mm=np.full(how.slices, how.slice_mm),
        sop_instance_uids=("",) * how.slices,
        frame_numbers=(1,) * how.slices,
    )
