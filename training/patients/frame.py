"""Frame: how each patient, simulated or own, lies in the grid of a network: head in the middle, or its cavity alone."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.cavity import brain_in, cavity_of
from ichnode.imaging.head_box import Box, first_in_the_middle, head_box
from ichnode.imaging.resample import OUTSIDE_HU, CanonicalGrid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """Of one patient, by the first CT; other volumes lie on it (z, y, x)."""

    shape: tuple[int, int, int]
    box: Box
    outside: Tensor | None  # what is taken away; None: nothing is stripped
    uncut_brain: Tensor  # boolean; all where no skull is found, or nobody asks for it

    @classmethod
    def of(cls, first_hu: Tensor, grid: CanonicalGrid, *, finds_brain: bool, stripped: bool) -> Self:
        """`stripped`: what lies outside the cavity has 0 HU, as water; all is kept where there is no skull."""
        hu, device, outside = first_hu.cpu().numpy(), first_hu.device, None
        brain = torch.ones_like(first_hu, dtype=torch.bool)
        if finds_brain or stripped:
            cavity = cavity_of(hu, grid.spacing_mm)
            brain = torch.from_numpy(brain_in(cavity, grid.spacing_mm)).to(device) if finds_brain else brain
            outside = torch.from_numpy(~cavity & cavity.any()).to(device) if stripped else None
        return cls(shape=grid.shape, box=head_box(hu, grid.spacing_mm), outside=outside, uncut_brain=brain)

    @property
    def brain(self) -> Tensor:
        """Cut and padded, with nothing around it; all where nothing was found, or asked for."""
        everything = bool(self.uncut_brain.all())
        return in_the_middle(self.uncut_brain, self.box, self.shape, everything)

    def hu(self, hu_dhw: Tensor) -> Tensor:
        """Cut and padded."""
        if self.outside is None:
            return in_the_middle(hu_dhw, self.box, self.shape, OUTSIDE_HU)
        return in_the_middle(hu_dhw.masked_fill(self.outside, 0.0), self.box, self.shape, 0.0)

    def labels(self, labels_dhw: Tensor) -> Tensor:
        """The same of labels."""
        return in_the_middle(labels_dhw, self.box, self.shape, 0)


def in_the_middle(x_dhw: Tensor, box: Box, shape: tuple[int, int, int], fill: float) -> Tensor:
    """`x_dhw` cut and padded to `shape`, so that `box` lies in the middle."""
    pads = []
    for start, size, have in zip(*map(reversed, (first_in_the_middle(box, shape), shape, x_dhw.shape)), strict=True):
        pads += [-start, start + size - have]
    return functional.pad(x_dhw, pads, value=fill)
