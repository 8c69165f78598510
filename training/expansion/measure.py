"""What the bundle of system D says of its own errors, measured on patients that no training saw."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from ichnode.inference.manifest import Calibration
from models.expansion import DEFINITIONS, DenseExpansion
from training.expansion.system import seen_of
from training.patients.batch import Patients

_RESAMPLES = 200
_WITHIN = (5, 95)  # percentiles
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Errors on some patients."""

    expands: tuple[Calibration, ...]  # of each of DEFINITIONS
    size_error_cm: tuple[float, float]  # percentiles of true - predicted cube root of the volume
    baseline_ml: tuple[float, float]  # least and most of these patients


def measured(
    network: DenseExpansion, batches: Iterable[Patients], spacing_mm: tuple[float, float, float], seed: int = 0
) -> Measured:
    """`network` in evaluation mode. Raises ValueError where no patient, or every one, is known to expand."""
    logits, truths, errors, volumes = [], [], [], []
    voxel_ml = prod(spacing_mm) / 1000
    for batch in batches:
        seen = seen_of(batch)
        with torch.inference_mode():
            answer = network(seen.x_bcdhw, seen.clinical_bn)
        logits.append(answer.expands_bk)
        truths.append(batch.became_bn[:, : len(DEFINITIONS)])
        predicted, true, first = (
            (share > 0.5).sum(dim=(1, 2, 3, 4)) * voxel_ml
            for share in (answer.hematoma_bcdhw, seen.later_hematoma_bcdhw, seen.baseline_bcdhw)
        )
        errors.append(true ** (1 / 3) - predicted ** (1 / 3))
        volumes.append(first)
    logit_nk, truth_nk = (torch.cat(rows).double().cpu().numpy() for rows in (logits, truths))
    low, high = np.percentile(torch.cat(errors).cpu().numpy(), _WITHIN)
    first_ml = torch.cat(volumes)
    return Measured(
        expands=tuple(calibration(logit_nk[:, index], truth_nk[:, index], seed) for index in range(len(DEFINITIONS))),
        size_error_cm=(float(low), float(high)),
        baseline_ml=(float(first_ml.min()), float(first_ml.max())),
    )


def calibration(logits: Floats, truth: Floats, seed: int) -> Calibration:
    """Platt's, and how far it moves when patients are drawn anew. Where `truth` is NaN it is not known.

    Raises ValueError for logits that are no better than chance.
    """
    known = np.isfinite(truth)
    logits, truth = logits[known], truth[known]
    scale, shift = _platt(logits, truth)
    if scale <= 0:
        raise ValueError("the network does not tell who expands: there is nothing to calibrate")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, len(truth), len(truth))
        if 0 < truth[chosen].sum() < len(chosen):
            a, b = _platt(logits[chosen], truth[chosen])
            drawn.append(a * logits + b)
    low, high = np.percentile(np.stack(drawn), _WITHIN, axis=0)
    return Calibration(scale=scale, shift=shift, spread=float((high - low).mean() / 2))


def _platt(logits: Floats, truth: Floats) -> tuple[float, float]:
    fitted = LogisticRegression(C=1e3).fit(logits[:, None], truth)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
