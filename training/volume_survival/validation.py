"""The score of system C: what of the sizes it explains, and how well it tells who dies."""

from collections.abc import Iterable

import torch

from models.volume_survival import VolumeSurvival, size_of
from training.patients.auc import auc
from training.patients.batch import Patients
from training.volume_survival.system import DIED, volume_ml


def size_and_death_score(network: VolumeSurvival, batches: Iterable[Patients]) -> float:
    """Mean of the explained variance of the size (no less than 0) and the AUC of death."""
    rows = []
    for batch in batches:
        answers = network(batch.hu_bdhw[:, None])
        truth_b = size_of(volume_ml(batch))
        rows.append(torch.stack([answers.size_b, truth_b, answers.died_bk[:, 1], batch.became_bn[:, DIED]], dim=1))
    size, true_size, death, died = torch.cat(rows).unbind(1)
    size, true_size = size[true_size.isfinite()], true_size[true_size.isfinite()]
    explained = 1 - float((size - true_size).square().mean() / true_size.var(correction=0).clamp_min(1e-6))
    return (max(0.0, explained) + auc(death, died)) / 2
