"""Forecaster: one of the models that predict from a head and its hematoma, and when it abstains."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ichnode.domain.findings import Estimate, EstimateName
from ichnode.errors import InferenceError
from ichnode.imaging.prediction import PredictedFollowUp
from ichnode.inference.bundle import Bundle
from ichnode.inference.head import Head
from ichnode.inference.manifest import ForecasterManifest

F = TypeVar("F", bound=ForecasterManifest)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """Numbers, and a picture where the model makes one. Neither where it abstains."""

    estimates: tuple[Estimate, ...]
    followup: PredictedFollowUp | None = None


class Forecaster(ABC, Generic[F]):
    """One bundle on one device."""

    estimates: ClassVar[tuple[EstimateName, ...]]  # that it makes, in the order of the results

    def __init__(self, bundle: Bundle[F], device: str) -> None:
        self.bundle, self.device = bundle, device

    def predict(self, head: Head) -> Forecast:
        """What the model says; it abstains from hematomas and heads that it does not know. Raises InferenceError."""
        network, manifest = self.bundle.network, self.bundle.manifest
        least_ml, most_ml = manifest.hematoma_ml
        if not least_ml <= head.growing_ml <= most_ml:
            known = f"the model was trained on {least_ml:g} to {most_ml:g} mL"
            return self.abstain(f"the hematoma has {head.growing_ml:.1f} mL; {known}")
        with torch.inference_mode():
            answer = network(*(tensor.to(self.device) for tensor in self.read(head)))
            strangeness = float(manifest.strangeness(network, answer)[0])
        if not all(bool(tensor.isfinite().all()) for tensor in answer):
            raise InferenceError("error", f"{manifest.name} gave answers that are not numbers")
        if strangeness > manifest.strangest:
            known = f"{strangeness:.1f}; the model knows up to {manifest.strangest:.1f}"
            return self.abstain(f"the head is unlike those that the model was trained on ({known})")
        return self.forecast(head, answer)

    def abstain(self, why: str) -> Forecast:
        """No picture, no numbers, and why."""
        return Forecast(estimates=tuple(Estimate(name=name, value=None, note=why) for name in self.estimates))

    @abstractmethod
    def read(self, head: Head) -> tuple[Tensor, ...]:
        """What the network is shown."""

    @abstractmethod
    def forecast(self, head: Head, answer: Any) -> Forecast:
        """What the answer of the network, all of it numbers, means."""
