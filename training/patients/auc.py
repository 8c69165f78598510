"""Area under the ROC curve of what is known."""

import torch
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from torch import Tensor


def auc(score: Tensor, truth: Tensor) -> float:
    """0-1; `truth` is 0 or 1, or NaN where it is not known. One half where only one answer occurs."""
    is_known = truth.isfinite()
    known = truth[is_known]
    if len(torch.unique(known)) < 2:
        return 0.5
    return float(roc_auc_score(known.cpu().numpy(), score.float()[is_known].cpu().numpy()))
