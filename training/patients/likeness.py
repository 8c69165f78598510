"""Likeness: what the patients of all folds are alike in, by what each system answers.

As the manifest states it, for images are not read: expansion is that of all hemorrhage together.
"""

from collections.abc import Callable, Iterable, Sequence
from math import nan
from typing import Literal

import numpy as np

from training.data.manifest import SPLITS, Row
from training.patients.batch import expands
from training.patients.own_data import outcome_of, own_patients

AlikeIn = Literal["hemorrhage", "prognosis", "death and volume"]
Kind = tuple[str, ...]  # the first word counts most; "nan" is what is not known


def _hemorrhage(rows: Sequence[Row]) -> dict[str, Kind]:
    """On the earliest follow-up within 72 hours: after thrombectomy any, else expansion."""
    pairs = [pair for split in SPLITS for pair in own_patients(rows, split, followup=True, masks=False)]
    bled = _words(rows, ((pair.first.patient, _bled(pair.first, pair.later)) for pair in pairs))
    treated = {row.patient for row in rows if row.thrombectomy}
    return {patient: (word, "treated" if patient in treated else "spontaneous") for patient, word in bled.items()}


def _bled(first: Row, later: Row | None) -> float:
    if later is None:
        return nan
    if first.thrombectomy:
        return nan if later.types is None else float(len(later.types) > 0)
    return expands(first.volume_ml, later.volume_ml)[0] if first.volume_ml and later.volume_ml is not None else nan


def _prognosis(rows: Sequence[Row]) -> dict[str, Kind]:
    poor = _words(rows, ((row.patient, outcome_of(row)[1]) for row in _firsts(rows)))
    return {patient: (word,) for patient, word in poor.items()}


def _death_and_volume(rows: Sequence[Row]) -> dict[str, Kind]:
    """By thirds of the volumes that are known."""
    volumes_ml = {row.patient: row.volume_ml for row in _firsts(rows) if row.volume_ml is not None}
    borders_ml = np.quantile(list(volumes_ml.values()), (1 / 3, 2 / 3)) if volumes_ml else np.zeros(0)
    thirds = _words(rows, ((patient, float(np.searchsorted(borders_ml, ml))) for patient, ml in volumes_ml.items()))
    died = _words(rows, ((row.patient, outcome_of(row)[0]) for row in _firsts(rows)))
    return {patient: (died[patient], third) for patient, third in thirds.items()}


def _firsts(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.paired_with is None]


def _words(rows: Sequence[Row], found: Iterable[tuple[str, float]]) -> dict[str, str]:
    """Of each patient; of several numbers the last that is known."""
    return {row.patient: "nan" for row in rows} | {
        patient: f"{value:g}" for patient, value in found if not np.isnan(value)
    }


LIKENESSES: dict[AlikeIn, Callable[[Sequence[Row]], dict[str, Kind]]] = {
    "hemorrhage": _hemorrhage,
    "prognosis": _prognosis,
    "death and volume": _death_and_volume,
}
