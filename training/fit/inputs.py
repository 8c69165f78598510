"""What the segmenter reads: HU seen through three windows."""

import torch
from torch import Tensor

WINDOWS_HU = ((15.0, 85.0), (-15.0, 200.0), (-100.0, 1300.0))  # Viola-UNet: Liu et al., arXiv 2208.06313


def channels(hu_bdhw: Tensor) -> Tensor:
    """(batch, window, z, y, x): each window scaled to 0-1 and clipped, as the predictor of ichnode does."""
    return torch.stack([((hu_bdhw - low) / (high - low)).clamp(0, 1) for low, high in WINDOWS_HU], dim=1)
