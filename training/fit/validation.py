"""Validation: one score for each held-out style, always on the same patients."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from training.fit.source import B, Source

T = TypeVar("T")
Score = Callable[[Any, Iterable[B]], float]  # a network in evaluation mode and batches on its device, to 0-1


class StyleScores(Generic[B]):
    """The score of each style. Its batches are made once and kept."""

    def __init__(self, styles: Mapping[str, Source[B]], score: Score[B], *, batches: int, device: str) -> None:
        self._batch_of = {style: cache(source.batch) for style, source in styles.items()}
        self._score, self._numbers, self._device = score, range(batches), device

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Score 0-1 by style."""
        return {
            style: self._score(network, (batch_of(number).to(self._device) for number in self._numbers))
            for style, batch_of in self._batch_of.items()
        }


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many, from the first to the last."""
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, min(len(items), most))]


def dice_over_all(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Dice of all masks (found, true) as one; 1 where both are empty throughout."""
    shared = total = 0
    for found, true in pairs:
        shared += int(torch.sum(found & true))
        total += int(found.sum() + true.sum())
    return 2 * shared / total if total else 1.0
