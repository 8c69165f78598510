"""The score of system B: how well its tasks tell patients apart."""

from collections.abc import Iterable

import torch
from torch import Tensor

from models.prognosis import Answers, Prognosis
from training.patients.auc import auc
from training.patients.batch import Patients
from training.prognosis.system import truth_of

_LOW_GCS = 1  # ordinal unit: 8 or less


def mean_auc_of(network: Prognosis, batches: Iterable[Patients]) -> float:
    """Mean of the AUC of poor outcome, of GCS 8 or less and of 80 years or older."""
    pairs = [(_columns(network(batch.hu_bdhw[:, None])), _columns(truth_of(batch))) for batch in batches]
    said, true = (torch.cat(rows).unbind(1) for rows in zip(*pairs, strict=True))
    return sum(auc(score, truth) for score, truth in zip(said, true, strict=True)) / len(said)


def _columns(answers: Answers) -> Tensor:
    """(patient, task)."""
    return torch.stack([answers.poor_b, answers.gcs_bu[:, _LOW_GCS], answers.elderly_b], dim=1)
