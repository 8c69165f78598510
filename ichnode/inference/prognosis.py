"""Prognosis: outcome, consciousness and age as a head CT tells them (system B)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ichnode.domain.findings import Estimate, EstimateName, GcsCategory
from ichnode.inference.forecaster import Forecast, Forecaster
from ichnode.inference.head import Head
from ichnode.inference.manifest import Calibration, PrognosisManifest
from ichnode.inference.saliency import guided_grad_cam


class PrognosisPredictor(Forecaster[PrognosisManifest]):
    """Three probabilities, and the category of the Glasgow Coma Scale."""

    estimates = (
        EstimateName.POOR_OUTCOME_PROBABILITY,
        EstimateName.LOW_GCS_PROBABILITY,
        EstimateName.AGE_80_PROBABILITY,
    )

    explained = "what speaks for a poor outcome, guided Grad-CAM"
    saliency = "prognosis_saliency"

    def read(self, head: Head) -> tuple[Tensor, ...]:
        """HU, of the cavity alone where the network has seen no other."""
        (hu,), network = super().read(head), self._network
        if not network.config.stripped:
            return (hu,)
        return (hu.where(torch.from_numpy(head.seen_by(self.bundle.manifest).cavity), 0.0),)

    def heat(self, read: Sequence[Tensor]) -> Tensor:
        """Of the logit of a poor outcome, where the paper's program looks for it."""
        network = self._network
        turned = network.turned(read[0])
        heat = guided_grad_cam(lambda hu: network.answers(hu).poor_b, network, network.last_convolution, turned)
        back: Tensor = network.turned(heat[None, None])[0, 0]
        return back

    def forecast(self, head: Head, answer: Any) -> Forecast:
        """Of `models.prognosis.Answers`. As many ordinal units as are on, so much worse is the category."""
        manifest = self.bundle.manifest
        at_most_12, at_most_8 = answer.gcs_bu[0].tolist()
        logits = (float(answer.poor_b[0]), at_most_8, float(answer.elderly_b[0]))
        poor, low_gcs, elderly = map(
            _estimate, self.estimates, (manifest.poor, manifest.low_gcs, manifest.elderly), logits
        )
        category = tuple(GcsCategory)[(at_most_12 > 0) + (at_most_8 > 0)]
        return Forecast(estimates=(replace(poor, note=manifest.outcome), replace(low_gcs, category=category), elderly))

    @property
    def _network(self) -> Any:
        return self.bundle.network


def _estimate(name: EstimateName, calibration: Calibration, logit: float) -> Estimate:
    value, low, high = calibration.percent(logit)
    return Estimate(name=name, value=value, low=low, high=high)
