"""Own data: numbered training batches from a manifest, alone or mixed with simulated ones."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional

from ichnode.errors import RefusedSeries
from ichnode.imaging.hu_range import air_up_to
from ichnode.imaging.resample import OUTSIDE_HU, CanonicalGrid
from training.data.load import Case, case
from training.data.manifest import DataError, Row
from training.fit.source import Batch, Source
from training.simulate.draw import Draw
from training.simulate.scanner import Scanned, turned
from training.simulate.source import LEAST_PLANES, completed, slab, together

_SEED = 2_000_000_000  # no simulated patient has it or a higher one


@dataclass(slots=True, kw_only=True)
class ManifestSource:
    """Heads with masks, or read as free of hemorrhage, each once in every round; mirrored, turned and noisier."""

    rows: Sequence[Row]
    grid: CanonicalGrid  # its shape and spacing; every head is brought to its middle
    device: str = "cpu"
    heads: int = 1
    kept: int = 64  # cases in memory, 15 MB each
    _cases: OrderedDict[int, Case] = field(default_factory=OrderedDict, init=False)

    def batch(self, number: int) -> Batch:
        """The batch of that number. Raises DataError that names the row."""
        shown = [self._shown(number * self.heads + index) for index in range(self.heads)]
        planes = max(len(each.hu) for each in shown)
        return together([completed(each, planes, 0) for each in shown])

    def _shown(self, number: int) -> Scanned:
        round_, place = divmod(number, len(self.rows))
        order = np.random.default_rng(_SEED + round_).permutation(len(self.rows))
        draw = Draw(seed=_SEED + number, device=self.device)
        seen = _fitted(self._case(int(order[place])), self.grid.shape, draw, self.device)
        noise = draw.normals("noise", *seen.hu.shape) * draw.uniform("noise level", 0, 3)
        hu = seen.hu * draw.normal("gain", 1, 0.01) + draw.normal("offset", 0, 1.5) + noise
        return turned(replace(seen, hu=hu), draw)

    def _case(self, index: int) -> Case:
        if index not in self._cases:
            row = self.rows[index]
            try:
                self._cases[index] = case(row, self.grid.spacing_mm)
            except (RefusedSeries, OSError) as problem:
                raise DataError(f"{row.source}/{row.study}: {problem}") from problem
            if len(self._cases) > self.kept:
                self._cases.popitem(last=False)
        return self._cases[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSource:
    """Own batches with the given share, simulated ones otherwise."""

    own: Source
    simulated: Source
    share: float

    def batch(self, number: int) -> Batch:
        """The batch of that number, of one of the two."""
        is_own = Draw(seed=_SEED + number).chance("own", self.share)
        return (self.own if is_own else self.simulated).batch(number)


def _fitted(one: Case, shape: tuple[int, int, int], draw: Draw, device: str) -> Scanned:
    """The head in the middle of rows and columns; a slab of `shape[0]` planes where there are more."""
    whole = Scanned(hu=torch.from_numpy(one.hu_dhw).to(device), labels=torch.from_numpy(one.labels_dhw).to(device))
    seen = slab(whole, shape[0], draw)
    hu, labels = seen.hu, seen.labels
    dense = hu > air_up_to(float(hu.min()))
    for axis in (1, 2):
        used = dense.any(dim=0).any(dim=2 - axis).nonzero().flatten()
        middle = int(used[[0, -1]].float().mean()) if len(used) else hu.shape[axis] // 2
        start = middle - shape[axis] // 2
        hu, labels = (_cut(x, axis, start, shape[axis], fill) for x, fill in ((hu, OUTSIDE_HU), (labels, 0)))
    return completed(Scanned(hu=hu, labels=labels), LEAST_PLANES if len(hu) <= LEAST_PLANES else shape[0], 0)


def _cut(x_dhw: torch.Tensor, axis: int, start: int, size: int, fill: float) -> torch.Tensor:
    """`size` voxels along `axis` from `start` on, which may lie outside."""
    before, after = max(0, -start), max(0, start + size - x_dhw.shape[axis])
    padding = [0, 0] * (2 - axis) + [before, after]
    return functional.pad(x_dhw, padding, value=fill).narrow(axis, start + before, size)
