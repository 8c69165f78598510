"""Expansion: how the hematoma of a head CT is likely to look the next day, on the slices as acquired.

The network says how the head moves and where blood is new. The CT itself is moved, so its noise and detail stay, and
where nothing moves and nothing is new it stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ichnode.domain.findings import Estimate, EstimateName, HemorrhageType
from ichnode.errors import InferenceError
from ichnode.imaging.head_box import grid_in_the_middle, head_box
from ichnode.imaging.prediction import PredictedFollowUp, Prediction
from ichnode.imaging.resample import CanonicalGrid, canonical_grid_for, to_acquisition, to_canonical, warped
from ichnode.imaging.volume import FloatArray, Mask, Volume
from ichnode.inference.bundle import Bundle
from ichnode.inference.manifest import ExpansionManifest

CLINICAL = ("onset_to_ct_h", "baseline_ml", "anticoagulant", "systolic_mmhg", "age", "gcs")  # as the network reads them
_SEEN_HU = 100.0  # 0 to this is 0 to 1
_LEAST_MOVE_VOXELS = 0.05
_LEAST_NEW = 0.05  # share of a voxel

ESTIMATES = (EstimateName.EXPANSION_PROBABILITY, EstimateName.PREDICTED_VOLUME, EstimateName.VOLUME_CHANGE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """The next day in pictures and numbers; neither where the model abstains."""

    followup: PredictedFollowUp | None
    estimates: tuple[Estimate, ...]


def abstained(why: str) -> Forecast:
    """No picture, no numbers, and why."""
    return Forecast(followup=None, estimates=tuple(Estimate(name=name, value=None, note=why) for name in ESTIMATES))


def growing_ml(now: Prediction, volume: Volume) -> float:
    """Parenchymal and ventricular blood."""
    parenchymal, ventricular = _parenchymal_and_ventricular(now)
    return volume.grid.volume_ml(parenchymal | ventricular)


class ExpansionPredictor:
    """One bundle on one device."""

    def __init__(self, bundle: Bundle[ExpansionManifest], device: str) -> None:
        self.bundle, self.device = bundle, device

    def predict(self, volume: Volume, now: Prediction, known: Mapping[str, float]) -> Forecast:
        """The next day of a head whose hematoma is `now`. `known` holds some of CLINICAL.

        Parenchymal and ventricular blood grows; blood of other types stays. Raises InferenceError.
        """
        manifest, grid = self.bundle.manifest, volume.grid
        parenchymal, ventricular = _parenchymal_and_ventricular(now)
        growing = parenchymal | ventricular
        now_ml, (least_ml, most_ml) = grid.volume_ml(growing), manifest.baseline_ml
        if not growing.any() or not least_ml <= now_ml <= most_ml:
            return abstained(
                f"the hematoma has {now_ml:.1f} mL; the model was trained on {least_ml:g} to {most_ml:g} mL"
            )
        head, x_bcdhw = self._seen(volume, parenchymal, ventricular)
        values = {**known, "baseline_ml": grid.volume_ml(parenchymal)}
        clinical_bn = torch.tensor([[values.get(name, torch.nan) for name in CLINICAL]], device=self.device)
        with torch.inference_mode():
            answer = self.bundle.network(x_bcdhw, clinical_bn)
        said = (answer.new_bcdhw, answer.displacement_bcdhw, answer.expands_bk)
        new_share, displacement, logits = (each[0].float().cpu().numpy() for each in said)
        if not all(np.isfinite(each).all() for each in (new_share, displacement, logits)):
            raise InferenceError("error", f"{manifest.name} gave answers that are not numbers")
        displacement_mm = _in_mm(displacement, head)
        images = (volume.hu, growing.astype(np.float32))
        moved, moved_blood = warped(images, grid, head, displacement_mm)
        new = to_acquisition(np.where(new_share[0] >= _LEAST_NEW, new_share[0], np.float32(0)), head, grid)
        moved_blood = moved_blood.clip(0, 1)
        new = new.clip(0, 1 - moved_blood)
        later = moved_blood + new >= 0.5
        blood_hu = float(volume.hu[growing].mean())
        return Forecast(
            followup=PredictedFollowUp(
                model=self.bundle.identity,
                hu=moved + new * (np.float32(blood_hu) - moved),
                hematoma=later | (now.hematoma & ~growing),
            ),
            estimates=self._estimates(now_ml, grid.volume_ml(later), logits),
        )

    def _seen(self, volume: Volume, parenchymal: Mask, ventricular: Mask) -> tuple[CanonicalGrid, torch.Tensor]:
        """The grid with the head in its middle, and on it CT, parenchymal and ventricular blood (1, 3, z, y, x)."""
        manifest = self.bundle.manifest
        whole = canonical_grid_for(volume.grid, manifest.grid_spacing_mm)
        box = head_box(to_canonical(volume, whole), whole.spacing_mm)
        head = grid_in_the_middle(whole, box, manifest.shape)
        ct = to_canonical(volume, head).clip(0, _SEEN_HU) / _SEEN_HU
        blood = [
            to_canonical(Volume(hu=mask.astype(np.float32), grid=volume.grid), head) >= 0.5
            for mask in (parenchymal, ventricular)
        ]
        x_cdhw = np.stack([ct, *blood]).astype(np.float32)
        x_bcdhw = torch.from_numpy(x_cdhw)[None].to(self.device)
        return head, x_bcdhw.contiguous(memory_format=torch.channels_last_3d)

    def _estimates(self, now_ml: float, later_ml: float, logits: FloatArray) -> tuple[Estimate, ...]:
        """As ESTIMATES."""
        manifest = self.bundle.manifest
        size = later_ml ** (1 / 3)
        least, most = (max(0.0, size + error) ** 3 for error in manifest.size_error_cm)
        probability, lower, upper = manifest.expands.percent(float(logits[0]))
        small, _, _ = manifest.expands_3_ml.percent(float(logits[1]))
        return (
            Estimate(
                name=EstimateName.EXPANSION_PROBABILITY,
                value=probability,
                low=lower,
                high=upper,
                note=f"growth of 6 mL or 33 % and more; of 3 mL and more: {small:.0f} %",
            ),
            Estimate(
                name=EstimateName.PREDICTED_VOLUME,
                value=later_ml,
                low=min(least, later_ml),
                high=max(most, later_ml),
            ),
            Estimate(
                name=EstimateName.VOLUME_CHANGE,
                value=later_ml - now_ml,
                low=min(least, later_ml) - now_ml,
                high=max(most, later_ml) - now_ml,
            ),
        )


def _parenchymal_and_ventricular(now: Prediction) -> tuple[Mask, Mask]:
    """All of the hematoma is parenchymal where the model tells no types apart."""
    if now.types is None:
        return now.hematoma, np.zeros_like(now.hematoma)
    numbers = {name: number for number, name in enumerate(now.classes, start=1)}
    parenchymal, ventricular = (
        now.hematoma & (now.types == numbers[name]) if name in numbers else np.zeros_like(now.hematoma)
        for name in (HemorrhageType.IPH, HemorrhageType.IVH)
    )
    return parenchymal, ventricular


def _in_mm(displacement: FloatArray, grid: CanonicalGrid) -> FloatArray:
    """From voxels (z y x, z, y, x) to mm (x y z, z, y, x); 0 where it is next to nothing."""
    moves = np.abs(displacement).max(axis=0) >= _LEAST_MOVE_VOXELS
    spacing_mm = np.array(grid.spacing_mm, np.float32)[:, None, None, None]
    return np.asarray((displacement * moves * spacing_mm)[::-1], np.float32)
