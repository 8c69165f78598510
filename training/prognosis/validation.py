"""The score of system B: how well its tasks tell patients apart."""

from collections.abc import Iterable

import torch

from models.perez import Perez
from models.prognosis import Prognosis
from training.patients.auc import auc
from training.patients.batch import Patients
from training.prognosis.export import columns
from training.prognosis.system import truth_of


def balanced_accuracy_of(network: Prognosis | Perez, batches: Iterable[Patients]) -> float:
    """Of poor outcome at a probability of one half, as the paper chooses; one half where only one outcome occurs."""
    pairs = [(network(batch.hu_bdhw[:, None]).poor_b > 0, truth_of(batch).poor_b) for batch in batches]
    said, true = (torch.cat(each) for each in zip(*pairs, strict=True))
    right = [(said == wanted)[true == wanted].float() for wanted in (False, True)]
    return float(torch.stack([each.mean() for each in right]).mean()) if all(map(len, right)) else 0.5


def mean_auc_of(network: Prognosis | Perez, batches: Iterable[Patients]) -> float:
    """Mean of the AUC of poor outcome, of GCS 8 or less and of 80 years or older."""
    pairs = [(columns(network(batch.hu_bdhw[:, None])), columns(truth_of(batch))) for batch in batches]
    said, true = (torch.cat(rows).unbind(1) for rows in zip(*pairs, strict=True))
    return sum(auc(score, truth) for score, truth in zip(said, true, strict=True)) / len(said)
