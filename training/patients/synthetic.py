"""Synthetic baselines: in a share of the showings the first CT is one that was grown back, or on, to the follow-up.

Five of six, as Abramova et al. do with each of their patients. Growth and volume are then those from what is shown.
"""

from dataclasses import dataclass, replace
from math import nan, prod

import numpy as np
import torch

from training.data.manifest import LABEL_VALUES
from training.data.synthetic_baseline import STEPS, Pair, synthetic_baseline
from training.fit.source import Source
from training.patients.batch import BECAME, KNOWN, Patients, expands

_SEED = 3_000_000_000
_IPH, _IVH = LABEL_VALUES["IPH"], LABEL_VALUES["IVH"]
_BASELINE_ML = KNOWN.index("baseline_ml")
_EXPANSIONS = [BECAME.index("conventional expansion"), BECAME.index("3 mL expansion")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticBaselines:
    """Batches of `source`, changed."""

    source: Source[Patients]
    spacing_mm: tuple[float, float, float]  # z, y, x
    share: float

    def batch(self, number: int) -> Patients:
        """The batch of that number."""
        batch, rng = self.source.batch(number), np.random.default_rng(_SEED + number)
        shown = {name: tensor.clone() for name, tensor in batch.tensors().items()}
        for patient in range(len(batch.hu_bdhw)):
            if rng.random() < self.share:
                self._change(shown, patient, rng)
        return replace(batch, **shown)

    def _change(self, shown: dict[str, torch.Tensor], patient: int, rng: np.random.Generator) -> None:
        """Nothing where no such baseline can be made."""
        labels, later = shown["labels_bdhw"][patient], shown["later_labels_bdhw"][patient]
        bled, bleeds = (((x == _IPH) | (x == _IVH)).cpu().numpy() for x in (labels, later))
        pair = Pair(
            hu=shown["hu_bdhw"][patient].cpu().numpy(),
            hematoma=bled,
            later_hu=shown["later_hu_bdhw"][patient].cpu().numpy(),
            later_hematoma=bleeds,
            spacing_mm=self.spacing_mm,
        )
        made = synthetic_baseline(pair, float(rng.uniform(*STEPS)), rng)
        if made is None:
            return
        hu, hematoma = (torch.from_numpy(x).to(labels.device) for x in made)
        ventricular = (labels == _IVH) | ((labels == 0) & (later == _IVH))
        others = labels.where((labels != _IPH) & (labels != _IVH), 0)
        labels_now = torch.where(hematoma, torch.where(ventricular, _IVH, _IPH), others).to(labels.dtype)
        voxel_ml = prod(self.spacing_mm) / 1000
        first_ml, later_ml = (float((x == _IPH).sum()) * voxel_ml for x in (labels_now, later))
        known, became = shown["known_bn"], shown["became_bn"]
        if bool(known[patient, _BASELINE_ML].isfinite()):
            known[patient, _BASELINE_ML] = first_ml
        if bool(became[patient, _EXPANSIONS].isfinite().all()):
            became[patient, _EXPANSIONS] = torch.tensor(expands(first_ml, later_ml) if first_ml else (nan, nan))
        shown["hu_bdhw"][patient], shown["labels_bdhw"][patient] = hu, labels_now
