"""System C measured beside ways that need no network: volume, death, and whether the volume is read off blood."""

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]

from ichnode.inference.manifest import VolumeSurvivalManifest
from ichnode.inference.volume_survival import heat_of_size
from models.volume_survival import volume_ml_of
from training.data.manifest import UNKNOWN
from training.evaluate.bootstrap import Figure, Values
from training.patients.batch import Patients
from training.patients.evaluation import FROM_NUMBERS, Contender, Evaluate, Rows, auc, from_numbers, mean, of_pairs
from training.volume_survival.system import DIED, VolumeSurvivalSystem, volume_ml

MAJORITY = "median volume; all live"
IN_BLOOD = "heat in blood"
_PUBLISHED = (
    "published, real data: MAE 4.91 mL, MSE 51.92 mL2, MAPE 43.00 %; accuracy and AUC of survival above 0.90, by "
    "0.0566 and 0.0568 above one task alone (Gong 2023, 258 patients, 88 % of whom lived)"
)


def rows(contenders: Mapping[str, Contender], batches: Iterable[Patients], system: VolumeSurvivalSystem) -> Rows:
    """Errors of the volume, and how well death is told; of what a network does not learn there is no figure."""
    patients = list(batches)
    died = [float(batch.became_bn[0, DIED]) for batch in patients]
    true_ml = [float(volume_ml(batch)[0]) for batch in patients]
    found = {}
    for name, contender in contenders.items():
        with torch.inference_mode():
            answers = [contender.network(batch.hu_bdhw[:, None]) for batch in patients]
        said_ml = [float(volume_ml_of(answer.size_b)[0]) for answer in answers] if contender.system.volume else []
        logits = [float(answer.died_bk[0, 1] - answer.died_bk[0, 0]) for answer in answers]
        risk = [contender.probability("died", logit) if contender.system.survival else nan for logit in logits]
        shares = [_in_blood(contender.network, batch) for batch in patients] if contender.system.volume else []
        known = [share for share in shares if share is not None]
        found[name] = _figures(said_ml, true_ml, risk, died, known)
    if by_numbers := from_numbers(patients, died):
        found[FROM_NUMBERS] = _figures([], true_ml, by_numbers, died)
    median_ml = [float(np.nanmedian(true_ml))] * len(patients)
    return found | {MAJORITY: _figures(median_ml, true_ml, [0.0] * len(patients), died)}


def _figures(
    said_ml: Sequence[float],
    true_ml: Sequence[float],
    risk: Sequence[float],
    died: Sequence[float],
    in_blood: Sequence[float] = (),
) -> dict[str, Figure]:
    """A row of the table; `said_ml` and `in_blood` are empty where nothing is said."""
    return _of_volume(said_ml, true_ml) | _of_death(risk, died) | {IN_BLOOD: mean(in_blood)}


def _in_blood(network: Any, batch: Patients) -> float | None:
    """Share of the heat of the volume that lies in blood; None where nobody knows of any, or where it shows nothing."""
    labels = batch.labels_bdhw[0]
    blood = (labels > 0) & (labels != UNKNOWN)
    if not blood.any():
        return None
    heat = heat_of_size(network, batch.hu_bdhw[:, None])
    everything = float(heat.sum())
    return float(heat[blood].sum()) / everything if everything > 0 else None


def _of_volume(said_ml: Sequence[float], true_ml: Sequence[float]) -> dict[str, Figure]:
    pairs = [(said, true) for said, true in zip(said_ml, true_ml, strict=False) if np.isfinite(true)]
    errors = np.array([said - true for said, true in pairs])
    return {
        "MAE mL": mean(np.abs(errors).tolist(), tuple(pairs)),
        "MSE mL2": mean((errors**2).tolist()),
        "MAPE %": mean([100 * abs(said - true) / true for said, true in pairs if true > 0]),
        "bias mL": mean(errors.tolist()),
    }


def _of_death(risk: Sequence[float], died: Sequence[float]) -> dict[str, Figure]:
    """At a threshold of one half."""
    return {
        "AUC": auc(risk, died),
        "PR-AUC": of_pairs(risk, died, _average_precision),
        "accuracy": of_pairs(risk, died, lambda said, true: float(np.mean((said > 0.5) == (true > 0.5)))),
        "sensitivity": of_pairs(risk, died, _sensitivity),
        "Brier": of_pairs(risk, died, lambda said, true: float(np.mean((said - true) ** 2))),
    }


def _average_precision(said: Values, true: Values) -> float:
    return float(average_precision_score(true > 0.5, said)) if (true > 0.5).any() else float("nan")


def _sensitivity(said: Values, true: Values) -> float:
    dead = true > 0.5
    return float(np.mean(said[dead] > 0.5)) if dead.any() else float("nan")


EVALUATE = Evaluate(
    kind=VolumeSurvivalManifest,
    rows=rows,
    published=_PUBLISHED,
    labels=("30-day death",),
    more_is_better={"MAE mL": False, "AUC": True, "PR-AUC": True, IN_BLOOD: True},
)
