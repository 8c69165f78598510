"""Own data: numbered training batches from a manifest."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ichnode.errors import RefusedSeries
from training.data.load import Case, case
from training.data.manifest import DataError, Row
from training.segmentation.showing import boxed, head_alone, together
from training.segmentation.system import Heads
from training.segmentation.wider import off_scale
from training.simulate.draw import Draw
from training.simulate.planes import slab
from training.simulate.scanner import Scanned, turned

_SEED = 2_000_000_000  # no simulated patient has it or a higher one


@dataclass(slots=True, kw_only=True)
class ManifestSource:
    """Heads with masks, or read as free of hemorrhage, each once in every round.

    In training they are mirrored, turned, noisier and off scale; for validation they are as they are, in their order.
    """

    rows: Sequence[Row]
    spacing_mm: tuple[float, float, float]  # z, y, x
    most_planes: int  # more are shown as slabs
    device: str = "cpu"
    heads: int = 1
    kept: int = 64  # cases in memory, 3 MB each
    as_they_are: bool = False
    _cases: OrderedDict[int, Case] = field(default_factory=OrderedDict, init=False)

    def batch(self, number: int) -> Heads:
        """The batch of that number. Raises DataError that names the row."""
        return together([self._shown(number * self.heads + index) for index in range(self.heads)])

    def _shown(self, number: int) -> Scanned:
        round_, place = divmod(number, len(self.rows))
        if self.as_they_are:
            return head_alone(self._scanned(place), self.spacing_mm)
        order = np.random.default_rng(_SEED + round_).permutation(len(self.rows))
        draw = Draw(seed=_SEED + number, device=self.device)
        whole = self._scanned(int(order[place]))
        seen = off_scale(boxed(turned(slab(whole, self.most_planes, draw), draw), self.spacing_mm, draw), draw)
        return replace(seen, hu=seen.hu + draw.normals("noise", *seen.hu.shape) * draw.uniform("noise level", 0, 3))

    def _scanned(self, index: int) -> Scanned:
        one = self._case(index)
        hu_dhw, labels_dhw = (torch.from_numpy(x).to(self.device) for x in (one.hu_dhw, one.labels_dhw))
        return Scanned(hu=hu_dhw, labels=labels_dhw)

    def _case(self, index: int) -> Case:
        if index not in self._cases:
            row = self.rows[index]
            try:
                self._cases[index] = case(row, self.spacing_mm, leveled=True)
            except (RefusedSeries, OSError) as problem:
                raise DataError(f"{row.source}/{row.study}: {problem}") from problem
            if len(self._cases) > self.kept:
                self._cases.popitem(last=False)
        return self._cases[index]
