"""Export of system C: what its bundle says of its errors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ichnode.inference.manifest import VolumeSurvivalManifest
from models.volume_survival import Answers, size_of
from training.patients.batch import Patients
from training.patients.calibration import Floats, calibration, within
from training.patients.export import Export
from training.volume_survival.system import DIED, VolumeSurvivalSystem, volume_ml


def row(system: VolumeSurvivalSystem, answer: Answers, batch: Patients) -> Tensor:
    """True - predicted size, how much more is said for death than for life, and who died."""
    error_b = size_of(volume_ml(batch)) - answer.size_b
    return torch.stack([error_b, answer.died_bk[:, 1] - answer.died_bk[:, 0], batch.became_bn[:, DIED]], dim=1)


def errors(rows: Floats) -> dict[str, Any]:
    """By the fields of the manifest."""
    error, said, died = rows.T
    return {"size_error_cm": within(error[np.isfinite(error)]), "died": calibration(said, died)}


EXPORT: Export[VolumeSurvivalSystem] = Export(
    kind=VolumeSurvivalManifest,
    architecture="volume_survival:VolumeSurvival",
    reference="Gong et al., Front Neurosci 2023, 10.3389/fnins.2023.1118340; fewer channels and calibration are ours",
    row=row,
    errors=errors,
)
