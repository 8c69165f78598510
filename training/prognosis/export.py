"""Export of system B: what its bundle says of its errors."""

from typing import Any

import torch
from torch import Tensor

from ichnode.inference.manifest import PrognosisManifest
from models.prognosis import Answers
from training.patients.batch import Patients
from training.patients.calibration import Floats, calibration
from training.patients.export import Export
from training.prognosis.system import PrognosisSystem, Truth, truth_of

LOW_GCS = 1  # ordinal unit: 8 or less
_POOR = "modified Rankin scale 4-6"  # of simulated patients: see training/simulate/clinical.py
_TASKS = ("poor", "low_gcs", "elderly")


def columns(answers: Answers | Truth) -> Tensor:
    """(patient, task), of `_TASKS`."""
    return torch.stack([answers.poor_b, answers.gcs_bu[:, LOW_GCS], answers.elderly_b], dim=1)


def row(system: PrognosisSystem, answer: Answers, batch: Patients) -> Tensor:
    """Logits and truth of each task."""
    return torch.cat([columns(answer), columns(truth_of(batch))], dim=1)


def errors(rows: Floats) -> dict[str, Any]:
    """By the fields of the manifest."""
    said, true = rows[:, : len(_TASKS)], rows[:, len(_TASKS) :]
    calibrations = {task: calibration(said[:, index], true[:, index]) for index, task in enumerate(_TASKS)}
    return {"outcome": _POOR, **calibrations}


EXPORT: Export[PrognosisSystem] = Export(
    kind=PrognosisManifest,
    architecture="prognosis:Prognosis",
    reference="Cobo et al., MLMI 2024, arXiv 2408.08784; CARD.md says what is unlike it",
    row=row,
    errors=errors,
)
