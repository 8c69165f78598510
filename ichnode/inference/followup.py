"""Follow-up: the next CT of a head and whether it shows hemorrhage (system A), in two uses.

After thrombectomy is what the paper was made for: any head, whether it bleeds yet or not. Spontaneous hemorrhage is an
adaptation: there the question is whether the hematoma grows. The CT itself is changed by what the network adds, so its
noise and detail stay; the hematoma of the next CT is looked for as in any CT.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ichnode.domain.findings import Estimate, EstimateName
from ichnode.imaging.prediction import PredictedFollowUp
from ichnode.imaging.resample import to_acquisition
from ichnode.imaging.volume import FloatArray, Volume
from ichnode.inference.forecaster import Forecast, Forecaster
from ichnode.inference.head import Head
from ichnode.inference.manifest import FollowupManifest

_SEEN_HU = 100.0  # 0 to this is 0 to 1
_LEAST_CHANGE_HU = 1.0


class _FollowupPredictor(Forecaster[FollowupManifest]):
    """What both uses have in common."""

    estimates = (EstimateName.LATE_HEMORRHAGE_PROBABILITY,)
    explained = "attention; the number comes from the whole head"
    saliency = "followup_saliency"
    pipeline: ClassVar[str]  # whose question it answers
    note: ClassVar[str]

    def read(self, head: Head) -> tuple[Tensor, ...]:
        """HU, and where the brain is: everywhere where there is no skull to tell."""
        return *super().read(head), torch.from_numpy(head.seen_by(self.bundle.manifest).brain)[None, None]

    def heat(self, read: Sequence[Tensor]) -> Tensor:
        """How much the class token attends to each place."""
        with torch.inference_mode():
            attention_bdhw = self.bundle.network(*read).attention_bdhw
        size = list(read[0].shape[2:])
        smooth = functional.interpolate(attention_bdhw[:, None], size=size, mode="trilinear", align_corners=False)
        return smooth[0, 0]

    def forecast(self, head: Head, answer: Any) -> Forecast:
        """Of `models.followup.Prediction`."""
        percent, low, high = self.bundle.manifest.calibration(self.pipeline).percent(float(answer.logits_bk[0].diff()))
        (name,) = self.estimates
        hu = head.volume.hu + self._change(head, answer)
        later = head.find(Volume(hu=hu, grid=head.volume.grid))
        return Forecast(
            estimates=(Estimate(name=name, value=percent, low=low, high=high, note=self.note),),
            followup=PredictedFollowUp(model=self.bundle.identity, hu=hu, hematoma=later.hematoma),
        )

    def _change(self, head: Head, answer: Any) -> FloatArray:
        """HU on the slices, 0 outside the brain and where it is next to nothing."""
        seen = head.seen_by(self.bundle.manifest)
        change = answer.ct_bcdhw[0, 0].float().cpu().numpy() * np.float32(_SEEN_HU) - seen.hu.clip(0, _SEEN_HU)
        marked = np.where(seen.brain & (np.abs(change) >= _LEAST_CHANGE_HU), change, np.float32(0))
        return to_acquisition(marked, seen.grid, head.volume.grid)


class AfterThrombectomyPredictor(_FollowupPredictor):
    """Hemorrhage on the CT after the one that follows thrombectomy, where there may be contrast staining alone."""

    pipeline = "followup_after_thrombectomy"
    least_ml = 0.0
    after_thrombectomy = True
    note = "after thrombectomy"


class SpontaneousPredictor(_FollowupPredictor):
    """Growth of a spontaneous hematoma by 6 mL or 33 %."""

    pipeline = "followup"
    note = "growth of 6 mL or 33 % and more; an adaptation: the method was published for patients after thrombectomy"
