"""What system A minimises to make the next CT: weighed absolute error and unlikeness of structure."""

from monai.losses import SSIMLoss
from torch import Tensor

_BLOOD_WEIGHT = 5.0  # of voxels with blood on either CT, 1 elsewhere
_STRUCTURE_WEIGHT = 0.5
_ssim_loss = SSIMLoss(spatial_dims=3, win_size=7)  # data range 1


def generation_loss(predicted_bcdhw: Tensor, true_bcdhw: Tensor, brain_bcdhw: Tensor, blood_bcdhw: Tensor) -> Tensor:
    """Mean over the brain of the weighed absolute error, and half of 1 - SSIM. CTs are 0-1, masks boolean."""
    weight = (1 + (_BLOOD_WEIGHT - 1) * blood_bcdhw) * brain_bcdhw
    error = (weight * (predicted_bcdhw - true_bcdhw).abs()).sum() / brain_bcdhw.sum().clamp_min(1)
    unlikeness: Tensor = _ssim_loss(predicted_bcdhw.float(), true_bcdhw.float())
    return error + _STRUCTURE_WEIGHT * unlikeness
