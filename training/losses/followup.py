"""What system A minimises to make the next CT: weighed absolute error and unlikeness of structure.

Structure is compared slice by slice, as it is read: a cube of 7 voxels would be 35 mm high, and took half the training.
"""

from monai.losses import SSIMLoss
from torch import Tensor

_BLOOD_WEIGHT = 5.0  # of voxels with blood on either CT, 1 elsewhere
_STRUCTURE_WEIGHT = 0.5
_ssim_loss = SSIMLoss(spatial_dims=2, win_size=7)  # data range 1


def generation_loss(predicted_bcdhw: Tensor, true_bcdhw: Tensor, brain_bcdhw: Tensor, blood_bcdhw: Tensor) -> Tensor:
    """Mean over the brain of the weighed absolute error, and half of 1 - SSIM. CTs are 0-1, masks boolean."""
    weight = (1 + (_BLOOD_WEIGHT - 1) * blood_bcdhw) * brain_bcdhw
    error = (weight * (predicted_bcdhw - true_bcdhw).abs()).sum() / brain_bcdhw.sum().clamp_min(1)
    predicted, true = (x_bcdhw.float().transpose(1, 2).flatten(0, 1) for x_bcdhw in (predicted_bcdhw, true_bcdhw))
    unlikeness: Tensor = _ssim_loss(predicted, true)
    return error + _STRUCTURE_WEIGHT * unlikeness
