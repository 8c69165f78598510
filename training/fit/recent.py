"""Recent: patients who cost time to make, each shown several times among others."""

from collections.abc import Callable
from typing import Generic, TypeVar

from training.simulate.draw import Draw

T = TypeVar("T")


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
