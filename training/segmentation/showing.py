"""How a network is shown heads in training, as the node shows them: the head's box alone, in whole strides.

Heads of one batch share the size of the largest; all others have more air than in the node (decision 22).
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from ichnode.imaging.head_box import head_box
from ichnode.imaging.resample import OUTSIDE_HU
from ichnode.imaging.skull import with_dense_skull
from models.segmenter import SegmenterConfig, padded
from training.segmentation.system import Heads
from training.simulate.draw import Draw
from training.simulate.scanner import Scanned

_MORE_AIR = 0.3  # share of the heads with more air than the node leaves
_MOST_AIR_MM = 24.0


def head_alone(seen: Scanned, spacing_mm: tuple[float, float, float]) -> Scanned:
    """The box of the head, with its skull, as the node leaves it."""
    hu_dhw = with_dense_skull(seen.hu.cpu().numpy(), spacing_mm[1:])
    box = head_box(hu_dhw, spacing_mm)
    return Scanned(hu=torch.from_numpy(hu_dhw).to(seen.hu.device)[box], labels=seen.labels[box])


def boxed(seen: Scanned, spacing_mm: tuple[float, float, float], draw: Draw) -> Scanned:
    """The box of the head, at times with more air behind its rows and columns."""
    alone = head_alone(seen, spacing_mm)
    hu, labels = alone.hu, alone.labels
    if draw.chance("more air", _MORE_AIR):
        rows, columns = (round(draw.uniform(f"air {way}", 0, _MOST_AIR_MM) / spacing_mm[-1]) for way in "yx")
        air_hu = float(seen.hu.min())  # of gray values it is black
        hu, labels = (functional.pad(x, (0, columns, 0, rows), value=v) for x, v in ((hu, air_hu), (labels, 0)))
    return Scanned(hu=hu, labels=labels)


def together(shown: Sequence[Scanned]) -> Heads:
    """One batch, as large as the largest head and in whole strides of the network that ships."""
    z, y, x = (max(each.hu.shape[axis] for each in shown) for axis in range(3))
    shape = SegmenterConfig().fitting((z, y, x))
    return Heads(
        hu_bdhw=torch.stack([padded(each.hu, shape, OUTSIDE_HU) for each in shown]),
        labels_bdhw=torch.stack([padded(each.labels, shape, 0) for each in shown]),
    )
