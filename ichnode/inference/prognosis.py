"""Prognosis: outcome, consciousness and age as a head CT tells them (system B)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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

    def heat(self, read: Sequence[Tensor]) -> Tensor:
        """Of the logit of a poor outcome, where the paper's program looks for it."""
        network: Any = self.bundle.network
        return guided_grad_cam(lambda hu: network(hu).poor_b, network, network.last_convolution, read[0])

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


def _estimate(name: EstimateName, calibration: Calibration, logit: float) -> Estimate:
    value, low, high = calibration.percent(logit)
    return Estimate(name=name, value=value, low=low, high=high)
