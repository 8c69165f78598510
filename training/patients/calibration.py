"""Calibration: from what a network says of patients that no training saw to probabilities, and how sure these are."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from ichnode.inference.manifest import Calibration

WITHIN = (5, 95)  # percentiles
_RESAMPLES = 200
Floats = NDArray[np.float64]


def calibration(logits: Floats, truth: Floats, seed: int = 0) -> Calibration:
    """Platt's, and how far it moves when patients are drawn anew. Where `truth` is NaN it is not known.

    Raises ValueError for logits that are no better than chance.
    """
    known = np.isfinite(truth)
    logits, truth = logits[known], truth[known]
    if len(np.unique(truth)) < 2:
        raise ValueError("of all patients the same is true: there is nothing to calibrate")
    scale, shift = _platt(logits, truth)
    if scale <= 0:
        raise ValueError("the network does not tell patients apart: there is nothing to calibrate")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, len(truth), len(truth))
        if 0 < truth[chosen].sum() < len(chosen):
            a, b = _platt(logits[chosen], truth[chosen])
            drawn.append(a * logits + b)
    low, high = np.percentile(np.stack(drawn), WITHIN, axis=0)
    seen = float(logits.min()), float(logits.max())
    return Calibration(scale=scale, shift=shift, spread=float((high - low).mean() / 2), seen=seen)


def within(errors: Floats) -> tuple[float, float]:
    """The interval that nine of ten errors lie in."""
    low, high = np.percentile(errors, WITHIN)
    return float(low), float(high)


def _platt(logits: Floats, truth: Floats) -> tuple[float, float]:
    """Scale and shift; hardly regularised, whatever the size of what is said."""
    unit = float(logits.std()) or 1.0
    fitted = LogisticRegression(C=1e3).fit(logits[:, None] / unit, truth)
    return float(fitted.coef_[0, 0]) / unit, float(fitted.intercept_[0])
