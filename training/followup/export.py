"""Export of system A: what its bundle says of its errors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ichnode.inference.manifest import Calibration, FollowupManifest
from models.followup import Prediction
from training.followup.system import EXPANSION, LATE, FollowupSystem
from training.patients.batch import Patients
from training.patients.calibration import Floats, calibration
from training.patients.export import Export


def row(system: FollowupSystem, answer: Prediction, batch: Patients) -> Tensor:
    """How much more is said for hemorrhage than against it, and the truth of both uses."""
    return torch.stack(
        [answer.logits_bk.diff(dim=1)[:, 0], batch.became_bn[:, LATE], batch.became_bn[:, EXPANSION]], dim=1
    )


def errors(rows: Floats) -> dict[str, Any]:
    """By the fields of the manifest, of each use that is known of a patient. Raises ValueError that names the use."""
    said, late, expansion = rows.T
    uses = {"after_thrombectomy": late, "spontaneous": expansion}
    return {use: _calibration(use, said, truth) for use, truth in uses.items() if np.isfinite(truth).any()}


def _calibration(use: str, said: Floats, truth: Floats) -> Calibration:
    try:
        return calibration(said, truth)
    except ValueError as problem:
        raise ValueError(f"{use}: {problem}") from problem


EXPORT: Export[FollowupSystem] = Export(
    kind=FollowupManifest,
    architecture="followup:Followup",
    reference="Jiang et al., arXiv 2408.00940; sizes, depths and losses are ours, the paper gives none",
    row=row,
    errors=errors,
)
