"""The score of system B: how well its tasks tell patients apart."""

from collections.abc import Iterable

import torch

from models.prognosis import Prognosis
from training.patients.auc import auc
from training.patients.batch import Patients
from training.prognosis.export import columns
from training.prognosis.system import truth_of


def mean_auc_of(network: Prognosis, batches: Iterable[Patients]) -> float:
    """Mean of the AUC of poor outcome, of GCS 8 or less and of 80 years or older."""
    pairs = [(columns(network(batch.hu_bdhw[:, None])), columns(truth_of(batch))) for batch in batches]
    said, true = (torch.cat(rows).unbind(1) for rows in zip(*pairs, strict=True))
    return sum(auc(score, truth) for score, truth in zip(said, true, strict=True)) / len(said)
