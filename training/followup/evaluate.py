"""System A measured beside a copy of the first CT, on pairs that no training saw.

The next CT is compared in the box of the brain and in a shell around the blood of the first CT, where copying wins
less; and by the blood that the shipped segmenter finds in it and in the true one.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log10, nan
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import compute_ssim_and_cs
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.resample import CanonicalGrid
from ichnode.imaging.volume import FloatArray
from ichnode.inference.bundle import load_bundle, shipped_bundles
from ichnode.inference.manifest import FollowupManifest, SegmenterManifest
from ichnode.inference.predictor import Predictor
from models.followup import DENSE, SEEN_HU
from training.data.manifest import UNKNOWN
from training.evaluate.bootstrap import Figure, Values
from training.evaluate.held_out import straight
from training.followup.system import EXPANSION, LATE, FollowupSystem, Seen, seen_of
from training.patients.batch import Patients
from training.patients.evaluation import FROM_NUMBERS, Contender, Evaluate, Rows, auc, from_numbers, mean, of_pairs

AS_IT_WAS = "as it was"
Mask = NDArray[np.bool_]
_SHELL_MM = 10.0  # around the blood of the first CT, without it
_WINDOW, _SIGMA = [7] * 3, [1.5] * 3  # of SSIM, in voxels
_PUBLISHED = (
    "published, real data: accuracy of hemorrhage after thrombectomy 0.8637 (Jiang 2024, 200 patients); of their "
    "group's later work on spontaneous hemorrhage: PSNR 26.73, SSIM 0.9123 (Feng 2025)"
)


def rows(contenders: Mapping[str, Contender], batches: Iterable[Patients], system: FollowupSystem) -> Rows:
    """Of the next CT, and of hemorrhage in both uses; numbers alone tell only of growth.

    Of what a network does not learn, or its bundle does not say, there is no figure.
    """
    patients = list(batches)
    seen = [seen_of(batch) for batch in patients]
    places = [(_box(each), _shell(batch, each, system.spacing_mm)) for batch, each in zip(patients, seen, strict=True)]
    segmenter = _segmenter(system.spacing_mm)
    true_ml = _found_ml(segmenter, [each.later_bcdhw for each in seen], seen, system.grid)

    def of_pictures(said: Sequence[Tensor]) -> dict[str, Figure]:
        found_ml = _found_ml(segmenter, said, seen, system.grid)
        return _of_pictures(said, seen, places) | _of_volumes(found_ml, true_ml)

    late, expansion = ([float(batch.became_bn[0, which]) for batch in patients] for which in (LATE, EXPANSION))
    found = {}
    for name, contender in contenders.items():
        with torch.inference_mode():
            answers = [contender.network(each.hu_bcdhw, each.brain_bcdhw) for each in seen]
        classifies, generates = contender.system.classifies, contender.system.generates
        logits = [float(answer.logits_bk[0].diff()) for answer in answers]
        after, spontaneous = (
            [contender.probability(use, logit) if classifies and _measured(contender, use) else nan for logit in logits]
            for use in ("after_thrombectomy", "spontaneous")
        )
        pictures = of_pictures([answer.ct_bcdhw for answer in answers] if generates else [])
        found[name] = pictures | _of_hemorrhage(after, late) | {_GROWTH: auc(spontaneous, expansion)}
    copies = of_pictures([each.x_bcdhw for each in seen])
    found[AS_IT_WAS] = copies | _of_hemorrhage([0.0] * len(patients), late) | {_GROWTH: mean([])}
    if said := from_numbers(patients, expansion):
        found[FROM_NUMBERS] = dict.fromkeys(found[AS_IT_WAS], mean([])) | {_GROWTH: auc(said, expansion)}
    return found


_GROWTH = "AUC growth, spontaneous"


def _measured(contender: Contender, use: str) -> bool:
    """Whether a bundle says anything in that use; a checkpoint does in both."""
    return contender.manifest is None or getattr(contender.manifest, use) is not None


def _of_pictures(said: Sequence[Tensor], seen: Sequence[Seen], places: Sequence[tuple[Any, Mask]]) -> dict[str, Figure]:
    """CTs are 0-1; `said` is empty where nothing is said. Who has no blood at first has no shell."""
    found: dict[str, list[float]] = {"PSNR": [], "SSIM": [], "PSNR around blood": [], "SSIM around blood": []}
    for ct_bcdhw, each, (box, shell) in zip(said, seen, places, strict=False):
        squared_errors = (ct_bcdhw - each.later_bcdhw).square()[0, 0].numpy()
        alike = _alike(ct_bcdhw, each.later_bcdhw)
        for where, name in ((box, ""), (shell, " around blood")):
            if squared_errors[where].size:
                found[f"PSNR{name}"].append(_psnr(squared_errors[where]))
                found[f"SSIM{name}"].append(float(alike[where].mean()))
    return {name: mean(values) for name, values in found.items()}


def _of_volumes(found_ml: Sequence[float], true_ml: Sequence[float]) -> dict[str, Figure]:
    """Blood that is found in what is said, and in what came true; `found_ml` is empty where nothing is."""
    true_ml = true_ml[: len(found_ml)]
    pairs = tuple(zip(found_ml, true_ml, strict=True))
    return {
        "segmented mL MAE": mean([abs(found - true) for found, true in pairs], pairs),
        "segmented mL r": of_pairs(found_ml, true_ml, _r),
    }


def _segmenter(spacing_mm: tuple[float, float, float]) -> Predictor | None:
    """The shipped one, where it reads such voxels."""
    bundle = load_bundle(shipped_bundles() / "hematoma", "cpu", SegmenterManifest)
    return Predictor(bundle, "cpu") if bundle.manifest.grid_spacing_mm == spacing_mm else None


def _found_ml(
    segmenter: Predictor | None, brains: Sequence[Tensor], seen: Sequence[Seen], grid: CanonicalGrid
) -> list[float]:
    """What it finds in these brains (0-1), each put into its first head: a segmenter wants to see a skull."""
    if segmenter is None:
        return []
    heads = (
        (brain * SEEN_HU).where(each.brain_bcdhw, each.hu_bcdhw) for brain, each in zip(brains, seen, strict=False)
    )
    volumes = (straight(head[0, 0].float().numpy(), grid) for head in heads)
    return [volume.grid.volume_ml(segmenter.predict(volume).hematoma) for volume in volumes]


def _of_hemorrhage(said: Sequence[float], late: Sequence[float]) -> dict[str, Figure]:
    """After thrombectomy, at a threshold of one half."""
    return {
        "AUC after thrombectomy": auc(said, late),
        "accuracy": of_pairs(said, late, lambda p, true: float(np.mean((p > 0.5) == (true > 0.5)))),
        "sensitivity": of_pairs(said, late, lambda p, true: _share(p > 0.5, true > 0.5)),
        "specificity": of_pairs(said, late, lambda p, true: _share(p <= 0.5, true <= 0.5)),
    }


def _share(said: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(np.mean(said[among])) if among.any() else float("nan")


def _psnr(squared_errors: Values) -> float:
    """Of a data range of 1; of no error at all that of one step of a 12-bit CT."""
    return -10 * log10(max(float(squared_errors.mean()), (1 / 4096) ** 2))


def _r(said: Values, true: Values) -> float:
    """Pearson's; none where all are alike."""
    return float(np.corrcoef(said, true)[0, 1]) if said.std() and true.std() else float("nan")


def _alike(ct_bcdhw: Tensor, later_bcdhw: Tensor) -> FloatArray:
    """SSIM around each voxel, (z, y, x)."""
    said, true = (functional.pad(x_bcdhw.float(), [_WINDOW[0] // 2] * 6) for x_bcdhw in (ct_bcdhw, later_bcdhw))
    ssim_bcdhw, _ = compute_ssim_and_cs(said, true, 3, _WINDOW, _SIGMA)
    return np.asarray(ssim_bcdhw[0, 0].numpy(), np.float32)


def _box(seen: Seen) -> Any:
    """Of the brain, as slices along z, y and x."""
    return ndimage.find_objects(seen.brain_bcdhw[0, 0].numpy().astype(np.uint8))[0]


def _shell(batch: Patients, seen: Seen, spacing_mm: tuple[float, float, float]) -> Mask:
    """(z, y, x), in the brain."""
    labels, dense = batch.labels_bdhw[0], seen.x_bcdhw[0, 0] > DENSE
    blood = (labels > 0).where(labels != UNKNOWN, dense).numpy()
    near = ndimage.distance_transform_edt(~blood, spacing_mm) <= _SHELL_MM if blood.any() else blood
    return np.asarray(near & ~blood & seen.brain_bcdhw[0, 0].numpy(), np.bool_)


EVALUATE = Evaluate(
    kind=FollowupManifest,
    rows=rows,
    published=_PUBLISHED,
    labels=("late hemorrhage", "expansion"),
    more_is_better={
        "PSNR": True,
        "SSIM": True,
        "PSNR around blood": True,
        "SSIM around blood": True,
        "segmented mL MAE": False,
        "segmented mL r": True,
        "AUC after thrombectomy": True,
        _GROWTH: True,
    },
)
