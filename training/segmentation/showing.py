"""How a network is shown heads in training, as the node shows them: the head's box alone, in whole strides.

Heads of one batch share the size of the largest; all others have more air than in the node (decision 22).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from ichnode.imaging.head_box import head_box
from ichnode.imaging.resample import OUTSIDE_HU
from ichnode.imaging.skull import with_dense_skull
from models.segmenter import SegmenterConfig, padded
from training.data.manifest import TYPES
from training.segmentation.system import Heads
from training.simulate.draw import Draw
from training.simulate.patient import SimulatedHead
from training.simulate.scanner import Scanned, nearby

_EFFACED_MM = 5.0
_GREY_LESS_CSF_HU = 30.0
_FARTHEST = 1.5  # planes from slice to slice: 7.5 mm on the grid of the network that ships
_BONE_HU = 400.0
_MORE_AIR = 0.3  # share of the heads with more air than the node leaves
_MOST_AIR_MM = 24.0


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


def head_alone(seen: Scanned, spacing_mm: tuple[float, float, float]) -> Scanned:
    """The box of the head, with its skull, as the node leaves it."""
    hu_dhw = with_dense_skull(seen.hu.cpu().numpy(), spacing_mm[1:])
    box = head_box(hu_dhw, spacing_mm)
    return Scanned(hu=torch.from_numpy(hu_dhw).to(seen.hu.device)[box], labels=seen.labels[box])


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


def cupped(seen: Scanned, spacing_mm: tuple[float, float, float], draw: Draw) -> Scanned:
    """Brighter brain beside bone in a third of the heads, by more than the simulated scanners show it."""
    if not draw.chance("cupped", 0.35):
        return seen
    bone, brain = (seen.hu > _BONE_HU).float(), (seen.hu > -50) & (seen.hu < 150)
    wide, narrow = (nearby(bone, reach / spacing_mm[-1]) for reach in (20, 8))
    return replace(
        seen, hu=seen.hu + brain * (wide * draw.uniform("wide cup", 0, 40) + narrow * draw.uniform("narrow cup", 0, 20))
    )


def boxed(seen: Scanned, spacing_mm: tuple[float, float, float], draw: Draw) -> Scanned:
    """The box of the head, at times with more air behind its rows and columns."""
    alone = head_alone(seen, spacing_mm)
    hu, labels = alone.hu, alone.labels
    if draw.chance("more air", _MORE_AIR):
        rows, columns = (round(draw.uniform(f"air {way}", 0, _MOST_AIR_MM) / spacing_mm[-1]) for way in "yx")
        air_hu = float(seen.hu.min())  # of gray values it is black
        hu, labels = (functional.pad(x, (0, columns, 0, rows), value=v) for x, v in ((hu, air_hu), (labels, 0)))
    return Scanned(hu=hu, labels=labels)


def off_scale(seen: Scanned, draw: Draw) -> Scanned:
    """Off by more HU than scanners are, in half of the heads: contrast has to count, not HU (decision 29)."""
    far = 1.0 if draw.chance("off scale", 0.5) else 0.0
    return replace(seen, hu=seen.hu * draw.normal("gain", 1, 0.06 * far) + draw.normal("offset", 0, 6.0 * far))


def together(shown: Sequence[Scanned]) -> Heads:
    """One batch, as large as the largest head and in whole strides of the network that ships."""
    z, y, x = (max(each.hu.shape[axis] for each in shown) for axis in range(3))
    shape = SegmenterConfig().fitting((z, y, x))
    return Heads(
        hu_bdhw=torch.stack([padded(each.hu, shape, OUTSIDE_HU) for each in shown]),
        labels_bdhw=torch.stack([padded(each.labels, shape, 0) for each in shown]),
    )
