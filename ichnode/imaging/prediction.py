"""Prediction: what a model returns, on the acquisition grid. The one type that inference and results share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ichnode.domain.findings import ModelIdentity
from ichnode.imaging.volume import FloatArray, Mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictedFollowUp:
    """How the head is likely to look in 24 hours."""

    model: ModelIdentity
    hu: FloatArray  # (slice, row, column); equals the source HU where nothing is predicted to change
    hematoma: Mask  # (slice, row, column)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saliency:
    """Where in the head an answer of a model comes from."""

    model: ModelIdentity
    role: str  # of the result that shows it
    about: str  # which answer
    heat: FloatArray  # (slice, row, column), 0-1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """Where the hematoma is, optionally where it is likely to be, and why models say what they say."""

    model: ModelIdentity
    probability: FloatArray  # (slice, row, column), 0-1
    hematoma: Mask  # (slice, row, column): probability thresholded and cleaned
    classes: tuple[str, ...] = ()  # what `types` numbers from 1
    types: NDArray[np.uint8] | None = (
        None  # (slice, row, column): most probable class from the lenient threshold, else 0
    )
    followup: PredictedFollowUp | None = None
    saliency: tuple[Saliency, ...] = ()
