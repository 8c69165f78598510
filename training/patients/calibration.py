"""Calibration: from what a network says of patients that no training saw to probabilities, and how sure these are."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from ichnode.inference.manifest import Calibration

WITHIN = (5, 95)  # percentiles
_RESAMPLES = 200
_STEEPEST = 3.0  # scale; else who is a little unlike others is a sure case where nearly the same is said of all
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
    return Calibration(scale=scale, shift=shift, spread=float((high - low).mean() / 2))


def within(errors: Floats) -> tuple[float, float]:
    """The interval that nine of ten errors lie in."""
    low, high = np.percentile(errors, WITHIN)
    return float(low), float(high)


def _platt(logits: Floats, truth: Floats) -> tuple[float, float]:
    fitted = LogisticRegression(C=1e3).fit(logits[:, None], truth)
    scale, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if scale <= _STEEPEST:
        return scale, shift
    scaled, sure = _STEEPEST * logits, 50.0  # after such shifts everybody is, or nobody
    between = -sure - float(scaled.max()), sure - float(scaled.min())
    return _STEEPEST, float(brentq(lambda b: expit(scaled + b).mean() - truth.mean(), *between))
