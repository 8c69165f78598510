"""Is a probability of 70 % right seven times of ten? Reliability, temperature and the thresholds of a bundle.

A case is kept as a histogram over probability, so that hundreds of cases fit into memory: (3, BINS), rows: mL of head,
mL of it that is hemorrhage, and mL times probability. Bins are 0.1 wide in log-odds, where networks are precise.
"""

from collections.abc import Sequence
from math import ceil, exp, floor

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ichnode.imaging.volume import Mask, Volume
from ichnode.inference.manifest import Thresholds
from training.data.manifest import UNKNOWN
from training.evaluate.metrics import dice

Histogram = NDArray[np.float64]

HEAD_HU = -200.0  # skin and denser: air around the head would only flatter
EDGES = 1 / (1 + np.exp(-np.linspace(-7, 7, 141)))  # probabilities 0.0009 to 0.9991; 0.5 is one of them
BINS = len(EDGES) + 1
_PER_POINT = 10  # bins to one point of a reliability curve


def histogram(probability: NDArray[np.float32], labels: NDArray[np.uint8], volume: Volume) -> Histogram:
    """How much of the head, and of its hemorrhage, has which probability. Unknown labels are left out."""
    result = np.zeros((3, BINS))
    for p, truth, hu, ml in zip(probability, labels, volume.hu, volume.grid.voxel_ml, strict=True):
        looked_at: Mask = (hu > HEAD_HU) & (truth != UNKNOWN)
        values, blood = p[looked_at].astype(np.float64), truth[looked_at] > 0
        bins = np.searchsorted(EDGES, values, side="right")
        for row, weights in enumerate((np.ones_like(values), blood, values)):
            result[row] += ml * np.bincount(bins, weights, BINS)
    return result


def reliability(histograms: Histogram) -> NDArray[np.float64]:
    """(3, points): mean probability, share that is hemorrhage (NaN where nothing is) and mL, of (case, 3, BINS).

    The first point is all below 0.0009, the last all above 0.9991; between them each spans one unit of log-odds.
    """
    starts = [0, *range(1, BINS - 1, _PER_POINT), BINS - 1]
    head, blood, weighted = np.add.reduceat(histograms.sum(axis=0), starts, axis=1)
    with np.errstate(invalid="ignore"):
        return np.stack([weighted / head, blood / head, head])


def expected_calibration_error(histograms: Histogram) -> float:
    """Mean distance of probability from share, weighed by mL of head (Naeini et al., AAAI 2015), of (case, 3, BINS)."""
    predicted, true, head = reliability(histograms)
    return float(np.nansum(np.abs(predicted - true) * head) / head.sum())


def fit_temperature(logits_nc: NDArray[np.float64], labels_n: NDArray[np.uint8]) -> float:
    """The divisor of the logits with the least negative log-likelihood (Guo et al., ICML 2017).

    Log-probabilities serve as logits. Column 0 is no hemorrhage; labels without a column are left out.
    """
    known = labels_n < logits_nc.shape[1]
    logits, labels = logits_nc[known], labels_n[known].astype(np.intp)

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(logits / exp(log_temperature), axis=1)
        return -float(log_p[np.arange(len(labels)), labels].mean())

    return exp(float(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def choose_thresholds(histograms: Sequence[Histogram], *, coverage: float = 0.9) -> Thresholds:
    """Found: best mean Dice. Strict and lenient: their volumes enclose the true one in `coverage` of the patients.

    The ends leave half of the rest out on either side, with the finite-sample step of split conformal prediction
    (Angelopoulos and Bates, 2021). Whole histograms count: the daemon's dropping of small components is not seen.
    The daemon's predictor drops probabilities far below the bundle's own lenient threshold: start from a low one.
    Patients without hemorrhage say nothing here. Raises ValueError where there is no other.
    """
    bleeding = [h for h in histograms if h[1].sum() > 0]
    if not bleeding:
        raise ValueError("thresholds need a patient with hemorrhage")
    curves = [_curve(h) for h in bleeding]
    found = int(np.argmax(np.mean([_dice_curve(*curve) for curve in curves], axis=0)))
    too_much = sorted(int((volumes > truth).sum()) for volumes, _, truth in curves)
    too_little = sorted(len(EDGES) - 1 - int((volumes < truth).sum()) for volumes, _, truth in curves)
    tail = (1 - coverage) / 2 * (len(curves) + 1)
    strict = too_much[min(len(curves), ceil(len(curves) + 1 - tail)) - 1]
    lenient = too_little[max(1, floor(tail)) - 1]
    place = {"found": found, "strict": max(found, strict), "lenient": min(found, lenient)}
    return Thresholds(**{name: round(float(EDGES[min(max(at, 0), BINS - 2)]), 4) for name, at in place.items()})


def _curve(one: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Predicted mL and overlap mL at each of EDGES as the threshold, and true mL."""
    above = np.cumsum(one[:, ::-1], axis=1)[:, ::-1]
    return above[0, 1:], above[1, 1:], float(above[1, 0])


def _dice_curve(volumes: NDArray[np.float64], overlaps: NDArray[np.float64], truth: float) -> list[float]:
    return [dice(truth, v, o) or 0.0 for v, o in zip(volumes, overlaps, strict=True)]
