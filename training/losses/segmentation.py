"""Soft Dice, and cross-entropy over all voxels and over those of hemorrhage alone, at several resolutions.

Voxels of unknown label count nowhere; hemorrhage whose type nobody recorded (ANY) counts for the union of the types.
Without hemorrhage the loss rises with what is found all the same: cross-entropy alone hardly minds a few false mL.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.data.manifest import ANY, UNKNOWN

SMOOTHING_VOXELS = 1.0
# 2.5 mL on the training grid: so much in a head without hemorrhage costs as much as half of one that is missed
FALSE_VOXELS = 125.0


def segmentation_loss(logits: Sequence[Tensor], labels_bdhw: Tensor, hemorrhage_weight: float = 0.0) -> Tensor:
    """Weighted mean over resolutions, finest first and each half as heavy as the one before; a scalar, float32.

    `logits` are (batch, none + types, z, y, x), `labels_bdhw` values of `manifest.LABEL_VALUES` at the finest.

    `hemorrhage_weight` is that of the cross-entropy over hemorrhage alone. It finds what is thin, and swells all: see
    decision 26.
    """
    weights = [0.5**depth for depth in range(len(logits))]
    terms = [
        weight * _one_resolution(each, labels_bdhw, hemorrhage_weight)
        for weight, each in zip(weights, logits, strict=True)
    ]
    return torch.stack(terms).sum() / sum(weights)


def _one_resolution(logits_bcdhw: Tensor, labels_bdhw: Tensor, hemorrhage_weight: float) -> Tensor:
    steps = [fine // coarse for fine, coarse in zip(labels_bdhw.shape[1:], logits_bcdhw.shape[2:], strict=True)]
    middles = tuple(slice(step // 2, None, step) for step in steps)
    labels_bv = labels_bdhw[:, *middles].flatten(1).long()
    log_p_bcv = torch.log_softmax(logits_bcdhw.float().flatten(2), dim=1)
    loss = _cross_entropy(log_p_bcv, labels_bv) + hemorrhage_weight * _hemorrhage_cross_entropy(log_p_bcv, labels_bv)
    p_bcv = log_p_bcv.exp() * (labels_bv != UNKNOWN)[:, None]
    bleeds_b, seen_b = (_is_blood(labels.flatten(1)).any(dim=1) for labels in (labels_bdhw, labels_bv))
    if bool(seen_b.any()):  # elsewhere it is too small to be seen at this resolution
        loss = loss + seen_b.float().mean() * _soft_dice_loss(p_bcv[seen_b], labels_bv[seen_b])
    false_b = p_bcv[~bleeds_b, 1:].sum(dim=(1, 2)) * math.prod(steps)
    return loss + (false_b / (false_b + FALSE_VOXELS)).sum() / len(bleeds_b)


def _is_blood(labels: Tensor) -> Tensor:
    return (labels > 0) & (labels != UNKNOWN)


def _cross_entropy(log_p_bcv: Tensor, labels_bv: Tensor) -> Tensor:
    """Mean over the voxels whose truth is known; 0 where there are none."""
    is_any, known = labels_bv == ANY, labels_bv != UNKNOWN
    loss_bv = functional.nll_loss(log_p_bcv, labels_bv.where(~is_any, UNKNOWN), ignore_index=UNKNOWN, reduction="none")
    if bool(is_any.any()):
        loss_bv = torch.where(is_any, -log_p_bcv[:, 1:].logsumexp(dim=1), loss_bv)
    return loss_bv.sum() / known.sum().clamp_min(1)


def _hemorrhage_cross_entropy(log_p_bcv: Tensor, labels_bv: Tensor) -> Tensor:
    """Of the right type where there is hemorrhage, mean over the types present; 0 where there are none.

    What is rare or small has next to no probability at first, and so no gradient from Dice and little from the mean
    over all voxels: without this the commonest type took all and the thin ones were missed.
    """
    head, place = torch.nonzero((labels_bv > 0) & (labels_bv < ANY), as_tuple=True)
    if not len(head):
        return log_p_bcv.new_zeros(())
    types = labels_bv[head, place]
    weight = 1 / torch.bincount(types, minlength=log_p_bcv.shape[1]).clamp_min(1)
    return functional.nll_loss(log_p_bcv[head, :, place], types, weight.to(log_p_bcv.dtype))


def _soft_dice_loss(p_bcv: Tensor, labels_bv: Tensor) -> Tensor:
    """1 - Dice over all these heads, mean of the types present and of all types as one."""
    head, place = torch.nonzero(_is_blood(labels_bv), as_tuple=True)
    truth, p = labels_bv[head, place], p_bcv[head, :, place]  # (voxel), (voxel, class)
    everywhere = p_bcv.sum(dim=(0, 2))
    claimed = everywhere - p[truth == ANY].sum(dim=0)  # there any type is right
    types = [label for label in torch.bincount(truth).nonzero().flatten().tolist() if label != ANY]
    shared = torch.stack([*(p[truth == label, label].sum() for label in types), (1 - p[:, 0]).sum()])
    found = torch.stack([*(claimed[label] for label in types), everywhere[1:].sum()])
    real = torch.stack([*((truth == label).sum() for label in types), torch.tensor(len(truth), device=p.device)])
    return 1 - ((2 * shared + SMOOTHING_VOXELS) / (found + real + SMOOTHING_VOXELS)).mean()
