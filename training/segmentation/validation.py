"""Validation: one score for each held-out style, always on the same heads."""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import nn

from training.data.manifest import UNKNOWN
from training.fit.source import Source
from training.segmentation.inputs import channels
from training.segmentation.system import Heads


class StyleScores:
    """Dice of any hemorrhage over all voxels of a style's heads, so that false positives in normals count too.

    The heads are made once and kept: 2 MB each on the training grid.
    """

    def __init__(self, styles: Mapping[str, Source[Heads]], *, batches: int, device: str) -> None:
        self._batch_of = {style: cache(source.batch) for style, source in styles.items()}
        self._numbers, self._device = range(batches), device

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Score 0-1 by style."""
        return {style: self._dice(network, batch_of) for style, batch_of in self._batch_of.items()}

    def _dice(self, network: nn.Module, batch_of: Callable[[int], Heads]) -> float:
        shared = total = 0
        for batch in map(batch_of, self._numbers):
            p_bcdhw = network(channels(batch.hu_bdhw.to(self._device)))
            labels_bdhw = batch.labels_bdhw.to(self._device)
            known = labels_bdhw != UNKNOWN
            found, truth = (p_bcdhw.sum(dim=1) >= 0.5) & known, (labels_bdhw > 0) & known
            shared += int(torch.sum(found & truth))
            total += int(found.sum() + truth.sum())
        return 2 * shared / total if total else 1.0
