"""System A measured beside a copy of the first CT, on pairs that no training saw."""

from collections.abc import Iterable, Mapping, Sequence
from math import log10, nan
from typing import Any

import numpy as np
import torch
from monai.losses import SSIMLoss
from numpy.typing import NDArray
from scipy import ndimage

from ichnode.inference.manifest import FollowupManifest
from training.evaluate.bootstrap import Figure, Values
from training.followup.system import EXPANSION, LATE, FollowupSystem, Seen, seen_of
from training.patients.batch import Patients
from training.patients.evaluation import FROM_NUMBERS, Contender, Evaluate, Rows, auc, from_numbers, mean, of_pairs

AS_IT_WAS = "as it was"
_SHELL_MM = 10.0  # around the blood of both CTs, and with it
_ssim_loss = SSIMLoss(spatial_dims=3, win_size=7, reduction="none")
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
    shells = [_shell(each, system.spacing_mm) for each in seen]
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
        pictures = _of_pictures([answer.ct_bcdhw for answer in answers] if generates else [], seen, shells)
        found[name] = pictures | _of_hemorrhage(after, late) | {_GROWTH: auc(spontaneous, expansion)}
    copies = _of_pictures([each.x_bcdhw for each in seen], seen, shells)
    found[AS_IT_WAS] = copies | _of_hemorrhage([0.0] * len(patients), late) | {_GROWTH: mean([])}
    if said := from_numbers(patients, expansion):
        found[FROM_NUMBERS] = dict.fromkeys(found[AS_IT_WAS], mean([])) | {_GROWTH: auc(said, expansion)}
    return found


_GROWTH = "AUC growth, spontaneous"


def _measured(contender: Contender, use: str) -> bool:
    """Whether a bundle says anything in that use; a checkpoint does in both."""
    return contender.manifest is None or getattr(contender.manifest, use) is not None


def _of_pictures(said: Sequence[Any], seen: Sequence[Seen], shells: Sequence[Any]) -> dict[str, Figure]:
    """CTs are 0-1; `said` is empty where nothing is said."""
    seen, shells = seen[: len(said)], shells[: len(said)]
    errors = [(ct - each.later_bcdhw).square()[0, 0].numpy() for ct, each in zip(said, seen, strict=True)]
    brains = [each.brain_bcdhw[0, 0].numpy() for each in seen]
    likeness = [1 - float(_ssim_loss(ct.float(), each.later_bcdhw)) for ct, each in zip(said, seen, strict=True)]
    return {
        "PSNR brain": mean([_psnr(error[brain]) for error, brain in zip(errors, brains, strict=True)]),
        "SSIM": mean(likeness),
        "PSNR at blood": mean(
            [_psnr(error[shell]) for error, shell in zip(errors, shells, strict=True) if shell.any()]
        ),
    }


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


def _shell(seen: Seen, spacing_mm: tuple[float, float, float]) -> Any:
    """(z, y, x)."""
    blood = seen.blood_bcdhw[0, 0].numpy()
    near = ndimage.distance_transform_edt(~blood, spacing_mm) <= _SHELL_MM if blood.any() else blood
    return near & seen.brain_bcdhw[0, 0].numpy()


EVALUATE = Evaluate(
    kind=FollowupManifest,
    rows=rows,
    published=_PUBLISHED,
    labels=("late hemorrhage", "expansion"),
    more_is_better=dict.fromkeys(("PSNR brain", "SSIM", "PSNR at blood", "AUC after thrombectomy", _GROWTH), True),
)
