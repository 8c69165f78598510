"""Recent: simulated patients cost time to make, so each is kept for a while and shown several times among others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.patient import SimulatedHead

SHOWINGS = 500_000_000  # so far from the seed of a patient lies that of how it is shown

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptHead:
    """A simulated head in little memory: many are kept."""

    hu: Tensor  # float16
    occupancy: Tensor  # (type, D, H, W) uint8, 255 for all of the voxel

    @classmethod
    def of(cls, head: SimulatedHead) -> "KeptHead":
        """Rounded."""
        return cls(hu=head.hu.half(), occupancy=(head.occupancy * 255).round().to(torch.uint8))


class Recent(Generic[T]):
    """The newest patient of every `showings` numbers, else one of the `recent` ones before, who are kept."""

    def __init__(self, showings: int, recent: int) -> None:
        self._showings, self._recent = showings, recent
        self._kept: dict[int, T] = {}

    def of(self, number: int, draw: Draw, make: Callable[[int], T]) -> T:
        """The patient of a number; `make` makes one from how many there were before."""
        patient = number // self._showings
        if number % self._showings:
            patient -= int(draw.uniform("patient", 0, min(self._recent, patient) + 1))
        if patient not in self._kept:
            self._kept[patient] = make(patient)
        made = self._kept[patient]
        if len(self._kept) > self._recent + 1:
            del self._kept[min(self._kept)]
        return made
