"""What the segmenter reads: HU seen through three windows."""

from torch import Tensor

from ichnode.inference.predictor import windowed
from models.segmenter import WINDOWS_HU


def channels(hu_bdhw: Tensor) -> Tensor:
    """(batch, window, z, y, x): each window scaled to 0-1 and clipped, as the predictor of ichnode does."""
    return windowed(hu_bdhw, WINDOWS_HU)
