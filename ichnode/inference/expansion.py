"""Expansion: how the hematoma of a head CT is likely to look the next day, on the slices as acquired.

The network says how the head moves and where blood is new. The CT itself is moved, so its noise and detail stay, and
where nothing moves and nothing is new it stays as it is. What lies outside the skull, and bone, does not move.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ichnode.domain.findings import Estimate, EstimateName, RiskClass
from ichnode.imaging.prediction import PredictedFollowUp
from ichnode.imaging.resample import CanonicalGrid, to_acquisition, to_canonical, warped
from ichnode.imaging.volume import FloatArray, Mask, Volume
from ichnode.inference.forecaster import Forecast, Forecaster
from ichnode.inference.head import Head
from ichnode.inference.manifest import ExpansionManifest
from ichnode.inference.saliency import grad_cam

CLINICAL = ("onset_to_ct_h", "baseline_ml", "anticoagulant", "systolic_mmhg", "age", "gcs")  # as the network reads them
_IN_WORDS: Mapping[str, Callable[[float], str]] = {
    "onset_to_ct_h": "{:g} h from onset to CT".format,
    "anticoagulant": lambda taken: "an anticoagulant" if taken else "no anticoagulant",
    "systolic_mmhg": "systolic {:g} mmHg".format,
    "age": "age {:g}".format,
    "gcs": "GCS {:g}".format,
}
_SEEN_HU = 100.0  # 0 to this is 0 to 1
_LEAST_MOVE_VOXELS = 0.05
_LEAST_NEW = 0.05  # share of a voxel


class ExpansionPredictor(Forecaster[ExpansionManifest]):
    """The next day's CT and hematoma, and how likely it is an expansion."""

    estimates = (
        EstimateName.EXPANSION_PROBABILITY,
        EstimateName.EXPANSION_3_ML_PROBABILITY,
        EstimateName.PREDICTED_VOLUME,
        EstimateName.VOLUME_CHANGE,
    )

    explained = "what speaks for expansion, Grad-CAM"
    saliency = "expansion_saliency"

    def read(self, head: Head) -> tuple[Tensor, ...]:
        """CT, parenchymal and ventricular blood (1, 3, z, y, x), and what is known of the patient."""
        seen = head.seen_by(self.bundle.manifest)
        blood = [
            to_canonical(Volume(hu=mask.astype(np.float32), grid=head.volume.grid), seen.grid) >= 0.5
            for mask in (head.parenchymal, head.ventricular)
        ]
        x_cdhw = np.stack([seen.hu.clip(0, _SEEN_HU) / _SEEN_HU, *blood]).astype(np.float32)
        x_bcdhw = torch.from_numpy(x_cdhw)[None].contiguous(memory_format=torch.channels_last_3d)
        values = {**head.known, "baseline_ml": head.volume.grid.volume_ml(head.parenchymal)}
        return x_bcdhw, torch.tensor([[values.get(name, torch.nan) for name in CLINICAL]])

    def heat(self, read: Sequence[Tensor]) -> Tensor:
        """Of the logit of 6 mL or 33 %, at the deepest features."""
        x_bcdhw, clinical_bn = read
        network: Any = self.bundle.network
        return grad_cam(lambda x: network(x, clinical_bn).expands_bk[:, 0], network.last_convolution, x_bcdhw)

    def forecast(self, head: Head, answer: Any) -> Forecast:
        """Parenchymal and ventricular blood grows as `models.expansion.DenseFollowup` says; all other blood stays."""
        volume, grid, growing = head.volume, head.volume.grid, head.parenchymal | head.ventricular
        seen = head.seen_by(self.bundle.manifest)
        said = (answer.new_bcdhw, answer.displacement_bcdhw, answer.expands_bk)
        new_share, displacement, logits = (each[0].float().cpu().numpy() for each in said)
        displacement_mm = _in_mm(displacement * _inside(seen.cavity), seen.grid)
        images = (volume.hu, growing.astype(np.float32))
        moved, moved_blood = warped(images, grid, seen.grid, displacement_mm)
        new = to_acquisition(np.where(new_share[0] >= _LEAST_NEW, new_share[0], np.float32(0)), seen.grid, grid)
        moved_blood = moved_blood.clip(0, 1)
        new = new.clip(0, 1 - moved_blood)
        later = moved_blood + new >= 0.5
        blood_hu = float(volume.hu[growing].mean())
        hematoma = later | (head.now.hematoma & ~growing)
        later_ml = grid.volume_ml(later)
        staying_ml = grid.volume_ml(hematoma) - later_ml
        return Forecast(
            followup=PredictedFollowUp(
                model=self.bundle.identity, hu=moved + new * (np.float32(blood_hu) - moved), hematoma=hematoma
            ),
            estimates=self._estimates(head, later_ml, staying_ml, logits),
        )

    def _estimates(self, head: Head, later_ml: float, staying_ml: float, logits: FloatArray) -> tuple[Estimate, ...]:
        """As `estimates`; `staying_ml` is blood of types that do not grow, of the volume but not of its change."""
        manifest, now_ml = self.bundle.manifest, head.growing_ml
        size = later_ml ** (1 / 3)
        least, most = (max(0.0, size + error) ** 3 for error in manifest.size_error_cm)
        probability, lower, upper = manifest.expands.percent(float(logits[0]))
        small, small_lower, small_upper = manifest.expands_3_ml.percent(float(logits[1]))
        return (
            Estimate(
                name=EstimateName.EXPANSION_PROBABILITY,
                value=probability,
                low=lower,
                high=upper,
                category=_risk(probability, manifest.risk_percent),
                note=f"growth of 6 mL or 33 % and more; {_told(head)}",
            ),
            Estimate(name=EstimateName.EXPANSION_3_ML_PROBABILITY, value=small, low=small_lower, high=small_upper),
            Estimate(
                name=EstimateName.PREDICTED_VOLUME,
                value=later_ml + staying_ml,
                low=min(least, later_ml) + staying_ml,
                high=max(most, later_ml) + staying_ml,
            ),
            Estimate(
                name=EstimateName.VOLUME_CHANGE,
                value=later_ml - now_ml,
                low=min(least, later_ml) - now_ml,
                high=max(most, later_ml) - now_ml,
            ),
        )


def _told(head: Head) -> str:
    """What the model was told of the patient beside the CT."""
    told = [in_words(head.known[name]) for name, in_words in _IN_WORDS.items() if name in head.known]
    return f"told of the patient: {', '.join(told)}" if told else "told nothing of the patient"


def _risk(percent: float, moderate_and_high: tuple[float, float]) -> RiskClass:
    moderate, high = moderate_and_high
    return RiskClass.HIGH if percent >= high else RiskClass.MODERATE if percent >= moderate else RiskClass.LOW


def _inside(cavity: Mask) -> FloatArray:
    """1 inside the skull, less towards it, 0 from there on: bone and head holder do not move."""
    return np.asarray((2 * gaussian_filter(cavity.astype(np.float32), 1.0) - 1).clip(0, 1), np.float32)


def _in_mm(displacement: FloatArray, grid: CanonicalGrid) -> FloatArray:
    """From voxels (z y x, z, y, x) to mm (x y z, z, y, x); 0 where it is next to nothing."""
    moves = np.abs(displacement).max(axis=0) >= _LEAST_MOVE_VOXELS
    spacing_mm = np.array(grid.spacing_mm, np.float32)[:, None, None, None]
    return np.asarray((displacement * moves * spacing_mm)[::-1], np.float32)
