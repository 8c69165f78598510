"""The segmenter's score: Dice of any hemorrhage."""

from collections.abc import Iterable

from torch import Tensor

from models.segmenter import Segmenter
from training.data.manifest import UNKNOWN
from training.fit.validation import dice_over_all
from training.segmentation.inputs import channels
from training.segmentation.system import Heads


def dice_of(network: Segmenter, batches: Iterable[Heads]) -> float:
    """Over all voxels of all heads, so that false positives in normals count too."""
    return dice_over_all(_masks(network, batch) for batch in batches)


def _masks(network: Segmenter, batch: Heads) -> tuple[Tensor, Tensor]:
    known = batch.labels_bdhw != UNKNOWN
    found = network(channels(batch.hu_bdhw)).sum(dim=1) >= 0.5
    return found & known, (batch.labels_bdhw > 0) & known
