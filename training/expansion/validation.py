"""The score of system D: Dice of growth."""

from collections.abc import Iterable

import torch

from models.expansion import DenseExpansion
from training.expansion.system import seen_of
from training.patients.batch import Patients


def growth_dice_of(network: DenseExpansion, batches: Iterable[Patients]) -> float:
    """Of growth predicted and true, over all voxels of all patients: growth where there was none counts too."""
    shared = total = 0
    for seen in map(seen_of, batches):
        was = seen.baseline_bcdhw > 0.5
        predicted = (network(seen.x_bcdhw, seen.clinical_bn).hematoma_bcdhw >= 0.5) & ~was
        true = (seen.later_hematoma_bcdhw > 0.5) & ~was
        shared += int(torch.sum(predicted & true))
        total += int(predicted.sum() + true.sum())
    return 2 * shared / total if total else 1.0
