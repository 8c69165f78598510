"""A case to evaluate on: a head CT with its true labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ichnode.imaging.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationCase:
    """One head CT and the truth about it."""

    name: str
    patient: str  # one patient may have several cases; intervals are over patients
    style: str  # kind of simulator, or data set: figures are given for each
    simulated: bool
    volume: Volume
    labels: NDArray[np.uint8]  # (slice, row, column): values of training.data.manifest.LABEL_VALUES
