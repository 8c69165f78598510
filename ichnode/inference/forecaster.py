"""Forecaster: one of the models that predict from a head and its hematoma, and when it abstains."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ichnode.domain.findings import Estimate, EstimateName
from ichnode.errors import InferenceError
from ichnode.imaging.prediction import PredictedFollowUp
from ichnode.imaging.resample import to_acquisition
from ichnode.imaging.volume import FloatArray
from ichnode.inference.bundle import Bundle
from ichnode.inference.head import Head
from ichnode.inference.manifest import ForecasterManifest

_ADULT_AGE = 18.0  # years
_HOTTEST = 99.9  # percentile

F = TypeVar("F", bound=ForecasterManifest)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """Numbers, and pictures where the model makes some. None of them where it abstains."""

    estimates: tuple[Estimate, ...]
    followup: PredictedFollowUp | None = None
    heat: FloatArray | None = None  # (slice, row, column), 0-1: where an answer comes from


class Forecaster(ABC, Generic[F]):
    """One bundle on one device."""

    estimates: ClassVar[tuple[EstimateName, ...]]  # that it makes, in the order of the results
    explained: ClassVar[str]  # which answer `heat` explains, in the words of the results
    saliency: ClassVar[str]  # the role of the result that shows it
    least_ml: ClassVar[float] = 0.5  # of parenchymal and ventricular blood, from which it is asked
    after_thrombectomy: ClassVar[bool] = False  # whether it knows such heads; all others know spontaneous hemorrhage

    def __init__(self, bundle: Bundle[F], device: str) -> None:
        self.bundle, self.device = bundle, device

    def predict(self, head: Head, *, explain: bool = False) -> Forecast:
        """What the model says; it abstains from hematomas and heads that it does not know. Raises InferenceError.

        `explain`: with the heat of the answer that it `explained`, which takes as long again.
        """
        network, manifest = self.bundle.network, self.bundle.manifest
        if head.known.get("age", _ADULT_AGE) < _ADULT_AGE:
            return self.abstain(f"the patient is younger than {_ADULT_AGE:g} years; the model was trained on adults")
        if head.after_thrombectomy and not self.after_thrombectomy:
            return self.abstain("after thrombectomy: the model was trained on spontaneous hemorrhage alone")
        least_ml, most_ml = manifest.hematoma_ml
        if not least_ml <= head.growing_ml <= most_ml:
            known = f"the model was trained on {least_ml:g} to {most_ml:g} mL"
            return self.abstain(f"the hematoma has {head.growing_ml:.1f} mL; {known}")
        read = [tensor.to(self.device) for tensor in self.read(head)]
        with torch.inference_mode():
            answer = network(*read)
            strangeness = float(manifest.strangeness(network, answer)[0])
        if not all(bool(tensor.isfinite().all()) for tensor in answer):
            raise InferenceError("error", f"{manifest.name} gave answers that are not numbers")
        if strangeness > manifest.strangest:
            known = f"{strangeness:.1f}; the model knows up to {manifest.strangest:.1f}"
            return self.abstain(f"the head is unlike those that the model was trained on ({known})")
        forecast = self.forecast(head, answer)
        return replace(forecast, heat=self._heat(head, read)) if explain else forecast

    def abstain(self, why: str) -> Forecast:
        """No picture, no numbers, and why."""
        return Forecast(estimates=tuple(Estimate(name=name, value=None, note=why) for name in self.estimates))

    def read(self, head: Head) -> tuple[Tensor, ...]:
        """What the network is shown: HU (1, 1, z, y, x), unless it wants more or less."""
        return (torch.from_numpy(head.seen_by(self.bundle.manifest).hu)[None, None],)

    @abstractmethod
    def heat(self, read: Sequence[Tensor]) -> Tensor:
        """(z, y, x) of any scale: where in what was read the answer comes from."""

    @abstractmethod
    def forecast(self, head: Head, answer: Any) -> Forecast:
        """What the answer of the network, all of it numbers, means."""

    def _heat(self, head: Head, read: Sequence[Tensor]) -> FloatArray:
        """On the slices, 1 where it is hottest; a few outliers count as that."""
        grid = head.seen_by(self.bundle.manifest).grid
        heat = self.heat(read).abs().cpu().numpy()
        hottest = float(np.percentile(heat, _HOTTEST)) or 1.0
        return to_acquisition((heat / hottest).clip(0, 1), grid, head.volume.grid).clip(0, 1)
