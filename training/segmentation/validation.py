"""The segmenter's score: Dice of any hemorrhage."""

from collections.abc import Iterable

import torch

from models.segmenter import Segmenter
from training.data.manifest import UNKNOWN
from training.segmentation.inputs import channels
from training.segmentation.system import Heads


def dice_of(network: Segmenter, batches: Iterable[Heads]) -> float:
    """Over all voxels of all heads, so that false positives in normals count too."""
    shared = total = 0
    for batch in batches:
        known = batch.labels_bdhw != UNKNOWN
        found = (network(channels(batch.hu_bdhw)).sum(dim=1) >= 0.5) & known
        truth = (batch.labels_bdhw > 0) & known
        shared += int(torch.sum(found & truth))
        total += int(found.sum() + truth.sum())
    return 2 * shared / total if total else 1.0
