"""What the segmenter reads: HU seen through three windows."""

from torch import Tensor

from ichnode.inference.predictor import windowed

WINDOWS_HU = ((15.0, 85.0), (-15.0, 200.0), (-100.0, 1300.0))  # Viola-UNet: Liu et al., arXiv 2208.06313


def channels(hu_bdhw: Tensor) -> Tensor:
    """(batch, window, z, y, x): each window scaled to 0-1 and clipped, as the predictor of ichnode does."""
    return windowed(hu_bdhw, WINDOWS_HU)
