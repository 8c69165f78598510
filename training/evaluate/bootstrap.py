"""Figures with 95 % bootstrap intervals over patients (percentile method; Efron and Tibshirani 1993)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
_ENDS = (2.5, 97.5)  # percent

Values = NDArray[np.float64]
Statistic = Callable[[Values], float]
Pairs = tuple[tuple[float, float], ...]  # said and true, of each patient


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its interval. All None where nothing could be measured; no interval for a single patient."""

    value: float | None
    low: float | None
    high: float | None
    patients: int  # that have such a value
    pairs: Pairs = ()  # what it was measured on, where it compares what is said
    draws: Values | None = field(default=None, compare=False, repr=False)  # of patients drawn with replacement

    def text(self, form: str) -> str:
        """ "0.83 [0.79-0.87]", each number in the format `form`; with "+" "+0.8 [-0.2 to 1.8]"."""
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:{form}}"
        ends, to = (form[1:], " to ") if form.startswith("+") else (form, "-")
        return f"{self.value:{form}} [{self.low:{ends}}{to}{self.high:{ends}}]"


def share(values: Values) -> float:
    """Mean of zeros and ones."""
    return float(values.mean())


def figure(by_patient: Sequence[Values], statistic: Statistic, *, seed: int = 0) -> Figure:
    """The statistic over the values of all patients, and over those of patients drawn with replacement.

    Each entry holds the values of one patient, (value, ...), so what belongs together is drawn together.
    """
    samples = [values for values in by_patient if len(values)]
    if not samples:
        return Figure(value=None, low=None, high=None, patients=0)
    value = statistic(np.concatenate(samples))
    if np.isnan(value) or len(samples) == 1:
        return Figure(value=None if np.isnan(value) else value, low=None, high=None, patients=len(samples))
    draws = _resampled(samples, statistic, np.random.default_rng(seed))
    low, high = np.nanpercentile(draws, _ENDS)
    if statistic is share:
        low, high = _opened(value, float(low), float(high), len(samples))
    return Figure(value=value, low=float(low), high=float(high), patients=len(samples), draws=draws)


def difference(one: Figure, other: Figure) -> Figure | None:
    """One number less another of the same patients, by the same draws of them. None where either is not known."""
    if one.value is None or other.value is None or one.draws is None or other.draws is None:
        return None
    if one.patients != other.patients:
        return None
    draws = one.draws - other.draws
    low, high = np.nanpercentile(draws, _ENDS)
    return Figure(value=one.value - other.value, low=float(low), high=float(high), patients=one.patients, draws=draws)


def _opened(value: float, low: float, high: float, patients: int) -> tuple[float, float]:
    """None of n, or all of n, leaves nothing to resample: the exact end instead (Clopper and Pearson 1934)."""
    reach = 1 - 0.025 ** (1 / patients)
    return (low if value < 1 else 1 - reach), (high if value > 0 else reach)


def _resampled(samples: list[Values], statistic: Statistic, rng: np.random.Generator) -> Values:
    everything, count = np.concatenate(samples), len(samples)
    ends = np.cumsum([len(values) for values in samples])
    places = [np.arange(end - len(values), end) for end, values in zip(ends, samples, strict=True)]
    draws = rng.integers(count, size=(RESAMPLES, count))
    return np.array([statistic(everything[np.concatenate([places[p] for p in drawn])]) for drawn in draws])
