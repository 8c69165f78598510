"""The score of system A: how well it tells who bleeds, and what of the change in the CT it foresees."""

from collections.abc import Iterable

import torch

from models.followup import Followup
from training.followup.system import seen_of
from training.patients.auc import auc
from training.patients.batch import Patients


def change_and_hemorrhage_score(network: Followup, batches: Iterable[Patients]) -> float:
    """Mean of the AUC of hemorrhage and of the share of the absolute change at blood that is foreseen (no less than 0).

    A copy of the first CT foresees nothing.
    """
    said, true, left, changed = [], [], 0.0, 0.0
    for seen in map(seen_of, batches):
        predicted = network(seen.hu_bcdhw, seen.brain_bcdhw)
        said.append(predicted.logits_bk.diff(dim=1)[:, 0])
        true.append(seen.hemorrhage_b)
        left += float(((predicted.ct_bcdhw - seen.later_bcdhw).abs() * seen.blood_bcdhw).sum())
        changed += float(((seen.x_bcdhw - seen.later_bcdhw).abs() * seen.blood_bcdhw).sum())
    foreseen = max(0.0, 1 - left / changed) if changed else 0.0
    return (auc(torch.cat(said), torch.cat(true)) + foreseen) / 2
