"""Volume and survival: how large a hematoma is and whether its patient lives, without an outline (system C)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ichnode.domain.findings import Estimate, EstimateName
from ichnode.inference.forecaster import Forecast, Forecaster
from ichnode.inference.head import Head
from ichnode.inference.manifest import VolumeSurvivalManifest
from ichnode.inference.saliency import grad_cam_by_place


class VolumeSurvivalPredictor(Forecaster[VolumeSurvivalManifest]):
    """The volume now, and the probability of death within 30 days."""

    estimates = (EstimateName.VOLUME_WITHOUT_OUTLINE, EstimateName.DEATH_PROBABILITY)

    explained = "what speaks for the volume, Grad-CAM by place"
    saliency = "volume_survival_saliency"

    def heat(self, read: Sequence[Tensor]) -> Tensor:
        """Of the size."""
        return heat_of_size(self.bundle.network, read[0])

    def forecast(self, head: Head, answer: Any) -> Forecast:
        """Of `models.volume_survival.Answers`."""
        manifest, size_cm = self.bundle.manifest, float(answer.size_b[0])
        volume_ml = _ml(size_cm)
        least_ml, most_ml = (_ml(size_cm + error) for error in manifest.size_error_cm)
        lived, died = answer.died_bk[0].tolist()
        percent, low, high = manifest.died.percent(died - lived)
        return Forecast(
            estimates=(
                Estimate(
                    name=EstimateName.VOLUME_WITHOUT_OUTLINE,
                    value=volume_ml,
                    low=min(least_ml, volume_ml),
                    high=max(most_ml, volume_ml),
                ),
                Estimate(name=EstimateName.DEATH_PROBABILITY, value=percent, low=low, high=high),
            )
        )


def heat_of_size(network: Any, hu_bcdhw: Tensor) -> Tensor:
    """(z, y, x), 0 and more: what speaks for the size of a `VolumeSurvival`, where the network says to look."""
    return grad_cam_by_place(lambda hu: network(hu).size_b, network.explained_by, hu_bcdhw)


def _ml(size_cm: float) -> float:
    return float(max(0.0, size_cm) ** 3)
