"""Heads shown wider than the simulator makes them: what other heads, other scanners and the node's reading do to blood.

Only training is shown so; heads that a network is measured on are as the simulator makes them (decisions 29 and 179).
"""

from dataclasses import replace

import torch
from torch.nn import functional

from training.data.manifest import TYPES
from training.simulate.draw import Draw
from training.simulate.patient import SimulatedHead
from training.simulate.scanner import Scanned, beside_bone

_EFFACED_MM = 5.0  # so far from the blood
_GREY_LESS_CSF_HU = 30.0
_FARTHEST = 1.5  # planes from slice to slice: 7.5 mm on the grid of the network that ships


def effaced(head: SimulatedHead, draw: Draw) -> SimulatedHead:
    """The sulci under subdural and epidural blood pressed shut, more or less, in half of the heads: brain abuts on it.

    The simulator's brain makes room with its CSF around it.
    """
    sheet = head.occupancy[[TYPES.index("SDH"), TYPES.index("EDH")]].sum(0)
    if not draw.chance("effaced", 0.5) or not bool(sheet.any()):
        return head
    reach = [2 * round(_EFFACED_MM / step) + 1 for step in head.grid.spacing_mm]
    under = functional.max_pool3d(sheet[None], reach, 1, [each // 2 for each in reach])[0]
    csf = head.space.csf * (1 - head.occupancy.sum(0)).clamp_min(0)
    return replace(head, hu=head.hu + csf * under * draw.uniform("so much effaced", 0, _GREY_LESS_CSF_HU))


def cupped(seen: Scanned, spacing_mm: tuple[float, float, float], draw: Draw) -> Scanned:
    """Brighter brain beside bone in a third of the heads, by more than the simulated scanners show it."""
    if not draw.chance("cupped", 0.35):
        return seen
    wide_hu, narrow_hu = draw.uniform("wide cup", 0, 40), draw.uniform("narrow cup", 0, 20)
    return replace(seen, hu=seen.hu + beside_bone(seen.hu, spacing_mm[-1], wide_hu=wide_hu, narrow_hu=narrow_hu))


def resliced(seen: Scanned, draw: Draw) -> Scanned:
    """Half of the heads as planes between slices that lie up to `_FARTHEST` planes apart: the node interpolates.

    Blood is labelled where, so interpolated, it is half of a voxel.
    """
    count = len(seen.hu)
    if not draw.chance("resliced", 0.5):
        return seen
    gap, first = draw.uniform("slice gap", 1, _FARTHEST), draw.uniform("first slice")
    slices = torch.arange(first - 1, count + gap, gap, device=seen.hu.device).clamp(0, count - 1)
    planes = torch.arange(count, device=seen.hu.device)
    between = (1 - (planes[:, None] - slices).abs() / gap).clamp_min(0)
    through = (1 - (slices[:, None] - planes).abs()).clamp_min(0)
    shares = between @ through
    shares = shares / shares.sum(1, keepdim=True)
    by_type = torch.einsum("pq,qyxt->tpyx", shares, functional.one_hot(seen.labels.long(), 1 + len(TYPES)).float())
    labels = torch.where(by_type[0] <= 0.5, 1 + by_type[1:].argmax(0), 0).to(torch.uint8)
    return Scanned(hu=torch.einsum("pq,qyx->pyx", shares, seen.hu.float()), labels=labels)


def off_scale(seen: Scanned, draw: Draw) -> Scanned:
    """Off by more HU than scanners are, in half of the heads: contrast has to count, not HU (decision 29)."""
    far = 1.0 if draw.chance("off scale", 0.5) else 0.0
    return replace(seen, hu=seen.hu * draw.normal("gain", 1, 0.06 * far) + draw.normal("offset", 0, 6.0 * far))
