"""What the expansion networks minimise: unlikeness of CT and hematoma, and fields that are rough or fold."""

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from models.expansion import DenseFollowup, Followup, jacobian_determinant

_FOLDING_WEIGHT = 0.1
_dice_loss = DiceLoss()  # on probabilities, means over batch and channels


def published_loss(predicted: Followup | DenseFollowup, ct_bcdhw: Tensor, hematoma_bcdhw: Tensor) -> Tensor:
    """Smoothness of the field, L1 of the CT and Dice of the moved hematoma, 1:1:1, as Abramova et al. weigh them."""
    return (
        smoothness(predicted.field_bcdhw)
        + functional.l1_loss(predicted.ct_bcdhw, ct_bcdhw)
        + _dice(predicted.hematoma_bcdhw, hematoma_bcdhw)
    )


def dense_loss(predicted: DenseFollowup, ct_bcdhw: Tensor, hematoma_bcdhw: Tensor, baseline_bcdhw: Tensor) -> Tensor:
    """The same, and Dice of the growth where there is any, and a price for folds. Hematomas are shares, 0-1."""
    grown, predicted_grown = (
        (later - baseline_bcdhw).clamp_min(0) for later in (hematoma_bcdhw, predicted.hematoma_bcdhw)
    )
    loss = published_loss(predicted, ct_bcdhw, hematoma_bcdhw)
    if bool(grown.any()):
        loss = loss + _dice(predicted_grown, grown)
    return loss + _FOLDING_WEIGHT * functional.relu(-jacobian_determinant(predicted.displacement_bcdhw)).mean()


def smoothness(field_bcdhw: Tensor) -> Tensor:
    """Mean over the axes of the mean squared forward difference."""
    return torch.stack([field_bcdhw.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).mean()


def _dice(predicted_bcdhw: Tensor, true_bcdhw: Tensor) -> Tensor:
    loss: Tensor = _dice_loss(predicted_bcdhw, true_bcdhw)
    return loss
