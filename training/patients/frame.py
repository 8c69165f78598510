"""Frame: how each patient, simulated or own, lies in the grid of a network: head in the middle, and the brain in it."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.cavity import cavity_of, without_rim
from ichnode.imaging.head_box import Box, first_in_the_middle, head_box
from ichnode.imaging.resample import OUTSIDE_HU, CanonicalGrid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """Of one patient, by the first CT; other volumes lie on it (z, y, x)."""

    shape: tuple[int, int, int]
    box: Box
    whole_brain: Tensor | None  # boolean; None: not asked for, or no skull found
    stripped: bool

    @classmethod
    def of(cls, first_hu: Tensor, grid: CanonicalGrid, *, finds_brain: bool, stripped: bool) -> Self:
        """`stripped`: what lies outside the brain has 0 HU, as water; all is kept where there is no skull."""
        hu, brain = first_hu.cpu().numpy(), None
        if finds_brain or stripped:
            found = without_rim(cavity_of(hu, grid.spacing_mm), grid.spacing_mm)
            brain = torch.from_numpy(found).to(first_hu.device) if found.any() else None
        return cls(shape=grid.shape, box=head_box(hu, grid.spacing_mm), whole_brain=brain, stripped=stripped)

    @property
    def brain(self) -> Tensor:
        """Boolean; all where there is no skull."""
        if self.whole_brain is None:
            return torch.ones(self.shape, dtype=torch.bool)
        return in_the_middle(self.whole_brain, self.box, self.shape, 0)

    def hu(self, hu_dhw: Tensor) -> Tensor:
        """Cut and padded."""
        if self.whole_brain is None or not self.stripped:
            return in_the_middle(hu_dhw, self.box, self.shape, OUTSIDE_HU)
        return in_the_middle(hu_dhw.where(self.whole_brain, 0.0), self.box, self.shape, 0.0)

    def labels(self, labels_dhw: Tensor) -> Tensor:
        """The same of labels."""
        return in_the_middle(labels_dhw, self.box, self.shape, 0)


def in_the_middle(x_dhw: Tensor, box: Box, shape: tuple[int, int, int], fill: float) -> Tensor:
    """`x_dhw` cut and padded to `shape`, so that `box` lies in the middle."""
    pads = []
    for start, size, have in zip(*map(reversed, (first_in_the_middle(box, shape), shape, x_dhw.shape)), strict=True):
        pads += [-start, start + size - have]
    return functional.pad(x_dhw, pads, value=fill)
