"""Validation: one score for each held-out style, always on the same patients."""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import nn

from training.expansion.system import seen_of
from training.fit.source import Source
from training.patients.batch import Patients


class GrowthScores:
    """Dice of growth, predicted and true, over all voxels of a style's patients: what does not grow counts too.

    The patients are made once and kept: 4 MB each on the training grid.
    """

    def __init__(self, styles: Mapping[str, Source[Patients]], *, batches: int, device: str) -> None:
        self._batch_of = {style: cache(source.batch) for style, source in styles.items()}
        self._numbers, self._device = range(batches), device

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Score 0-1 by style."""
        return {style: self._dice(network, batch_of) for style, batch_of in self._batch_of.items()}

    def _dice(self, network: nn.Module, batch_of: Callable[[int], Patients]) -> float:
        shared = total = 0
        for batch in map(batch_of, self._numbers):
            seen = seen_of(batch.to(self._device))
            was = seen.baseline_bcdhw > 0.5
            predicted = (network(seen.x_bcdhw, seen.clinical_bn).hematoma_bcdhw >= 0.5) & ~was
            true = (seen.later_hematoma_bcdhw > 0.5) & ~was
            shared += int(torch.sum(predicted & true))
            total += int(predicted.sum() + true.sum())
        return 2 * shared / total if total else 1.0
