"""Simulated batches for training and validation: numbered, made on the fly, the same in every run.

A new patient comes every few batches; a batch shows one of the most recent patients through a new scanner, so that one
head serves several times under different kernels, slices, noise and exports.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ichnode.imaging.resample import CanonicalGrid
from models.segmenter import SegmenterConfig, mirrored
from training.fit.source import Batch
from training.simulate import picture, scanner
from training.simulate.atlas import atlas_of
from training.simulate.cohort import patient_spec
from training.simulate.draw import Draw
from training.simulate.patient import SimulatedHead, simulate_head
from training.simulate.scanner import Scanned
from training.simulate.styles import Style

PLANES_EACH = 2  # fine planes in each plane of the training grid
TRAINING_SEEDS, VALIDATION_SEEDS = 1_000_000, 900_000_000  # the first of each; no training run gets to the second
LEAST_PLANES = SegmenterConfig().planes
_SHOWINGS = 500_000_000  # so far from the seed of a patient lies that of how it is shown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    """A simulated head in little memory: dozens are kept."""

    hu: Tensor  # float16
    occupancy: Tensor  # (type, D, H, W) uint8, 255 for all of the voxel

    @classmethod
    def of(cls, head: SimulatedHead) -> "_Kept":
        return cls(hu=head.hu.half(), occupancy=(head.occupancy * 255).round().to(torch.uint8))


@dataclass(slots=True, kw_only=True)
class SimulatedSource:
    """Batches of one style on `grid`: whole heads, slabs, or few slices as single-slice series have them."""

    grid: CanonicalGrid
    style: Style
    first_seed: int = TRAINING_SEEDS
    device: str = "cpu"
    heads: int = 1
    showings: int = 3  # of each patient, on average
    recent: int = 24  # patients kept
    few_slices: float = 0.15  # share of the batches
    slabs: float = 0.3
    _kept: OrderedDict[int, _Kept] = field(default_factory=OrderedDict, init=False)

    def batch(self, number: int) -> Batch:
        """The batch of that number."""
        draw = Draw(seed=self.first_seed + _SHOWINGS + number, device=self.device)
        kind = draw.choice(
            "shown", ("few", "slab", "whole"), (self.few_slices, self.slabs, 1 - self.few_slices - self.slabs)
        )
        shown = [self._shown(number * self.heads + index, kind) for index in range(self.heads)]
        return together(shown)

    def _shown(self, number: int, kind: str) -> Scanned:
        draw = Draw(seed=self.first_seed + 2 * _SHOWINGS + number, device=self.device)
        head = self._head(self._patient(number, draw))
        seen = seen_by(self.style, head.hu.float(), head.occupancy / 255, draw, self.grid.spacing_mm[-1])
        if kind == "few":
            return completed(few(seen, draw), LEAST_PLANES, int(draw.uniform("first shown", 0, LEAST_PLANES)))
        return slab(seen, LEAST_PLANES, draw) if kind == "slab" else seen

    def _patient(self, number: int, draw: Draw) -> int:
        """The newest patient of every `showings` batches, else one of the recent ones."""
        newest = number // self.showings
        if number % self.showings == 0:
            return self.first_seed + newest
        return self.first_seed + max(0, newest - int(draw.uniform("patient", 0, self.recent)))

    def _head(self, seed: int) -> _Kept:
        if seed in self._kept:
            self._kept.move_to_end(seed)
            return self._kept[seed]
        atlas = atlas_of(self.style, self.device)
        head = simulate_head(patient_spec(seed), fine(self.grid), atlas, self.style, device=self.device)
        self._kept[seed] = _Kept.of(head)
        if len(self._kept) > self.recent + 2:
            self._kept.popitem(last=False)
        return self._kept[seed]


def fine(grid: CanonicalGrid) -> CanonicalGrid:
    """The same box in thinner planes."""
    dz = grid.spacing_mm[0] / PLANES_EACH
    x, y, z = grid.origin_lps
    return CanonicalGrid(
        shape=(grid.shape[0] * PLANES_EACH, *grid.shape[1:]),
        spacing_mm=(dz, *grid.spacing_mm[1:]),
        origin_lps=(x, y, z - dz * (PLANES_EACH - 1) / 2),
    )


def seen_by(style: Style, hu: Tensor, occupancy_cdhw: Tensor, draw: Draw, pixel_mm: float) -> Scanned:
    """A head through a scanner of the style, in planes of `PLANES_EACH` fine ones."""
    scan, turned = (picture.scan, picture.turned) if style.scanner == "picture" else (scanner.scan, scanner.turned)
    return turned(scan(hu, occupancy_cdhw, draw, planes_each=PLANES_EACH, pixel_mm=pixel_mm), draw)


def few(seen: Scanned, draw: Draw) -> Scanned:
    """One to twelve neighbouring planes with much head, more often with blood than without."""
    count = min(round(draw.log_uniform("slices shown", 0.6, 12)) or 1, seen.hu.shape[0])
    wanted = (seen.labels > 0).flatten(1).any(1)
    if not bool(wanted.any()) or draw.chance("anywhere", 0.2):
        tissue = (seen.hu > -100).flatten(1).float().mean(1)
        wanted = tissue >= 0.5 * tissue.max()
    planes = wanted.nonzero()
    middle = int(planes[int(draw.uniform("plane") * len(planes))])
    first = min(max(0, middle - count // 2), seen.hu.shape[0] - count)
    return seen.planes(slice(first, first + count))


def slab(seen: Scanned, planes: int, draw: Draw) -> Scanned:
    """At most so many planes, from anywhere: not every series reaches from skull base to vertex."""
    first = int(draw.uniform("first of slab", 0, max(0, len(seen.hu) - planes) + 1))
    return seen.planes(slice(first, first + planes))


def completed(seen: Scanned, planes: int, first: int) -> Scanned:
    """Mirrored up to `planes`, its own from `first` on."""
    return seen.planes(mirrored(len(seen.hu), first, planes))


def together(shown: Sequence[Scanned]) -> Batch:
    """One batch of heads of the same size."""
    hu_bdhw, labels_bdhw = (torch.stack([getattr(s, name) for s in shown]) for name in ("hu", "labels"))
    return Batch(hu_bdhw=hu_bdhw, labels_bdhw=labels_bdhw)


def validation_source(grid: CanonicalGrid, style: Style, device: str = "cpu") -> SimulatedSource:
    """Heads of a style that no training run gets to, each shown once."""
    return SimulatedSource(grid=grid, style=style, first_seed=VALIDATION_SEEDS, device=device, showings=1, recent=0)
