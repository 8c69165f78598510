"""Export of system D: what its bundle says of its errors."""

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ichnode.inference.manifest import ExpansionManifest
from models.expansion import DEFINITIONS, DenseFollowup
from training.expansion.system import ExpansionSystem, seen_of
from training.patients.batch import Patients
from training.patients.calibration import Floats, calibration, within
from training.patients.export import Export

_CONVENTIONAL, _SMALL = range(len(DEFINITIONS))
_RISKS = (0.5, 1.5)  # of the share who expand: where the risk begins to be moderate, and high


def row(system: ExpansionSystem, answer: DenseFollowup, batch: Patients) -> Tensor:
    """Logits and truth of both definitions, and true - predicted cube root of the volume."""
    predicted, true = (
        (share > 0.5).sum(dim=(1, 2, 3, 4)) * prod(system.spacing_mm) / 1000
        for share in (answer.hematoma_bcdhw, seen_of(batch).later_hematoma_bcdhw)
    )
    error_b = true ** (1 / 3) - predicted ** (1 / 3)
    return torch.cat([answer.expands_bk, batch.became_bn[:, : len(DEFINITIONS)], error_b[:, None]], dim=1)


def errors(rows: Floats) -> dict[str, Any]:
    """By the fields of the manifest."""
    logits, truth, error = rows[:, : len(DEFINITIONS)], rows[:, len(DEFINITIONS) : -1], rows[:, -1]
    conventional, small = (calibration(logits[:, index], truth[:, index]) for index in (_CONVENTIONAL, _SMALL))
    moderate, high = (100 * share * float(np.nanmean(truth[:, _CONVENTIONAL])) for share in _RISKS)
    return {
        "expands": conventional,
        "expands_3_ml": small,
        "risk_percent": (moderate, high),
        "size_error_cm": within(error),
    }


EXPORT: Export[ExpansionSystem] = Export(
    kind=ExpansionManifest,
    architecture="expansion:DenseExpansion",
    reference="Abramova et al., Appl Sci 2024, 14(7) 2708; dense velocity field and clinical conditioning are ours",
    row=row,
    errors=errors,
)
