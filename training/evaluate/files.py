"""Files of the report: everything as JSON, and one CSV row for each case and contender."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from training.data.manifest import TYPES
from training.evaluate.bootstrap import Figure
from training.evaluate.calibration import choose_thresholds, reliability
from training.evaluate.report import Report, provenance
from training.evaluate.score import Score
from training.evaluate.summary import MEASURES, Summary, worst_style


def write_json(found: Sequence[Report], refused: Mapping[str, str], path: Path) -> None:
    """Everything in the tables and more."""
    scores = found[0].scores
    content = {
        "about": provenance(score.simulated for score in scores),
        "cases": len(scores),
        "patients": len({s.patient for s in scores}),
        "normals": sum(not s.bleeds for s in scores),
        "refused": dict(refused),
        "intervals": "95 %, bootstrap over patients; Clopper-Pearson where none or all of them are found",
        "contenders": {report.contender: _as_json(report) for report in found},
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")


def write_csv(found: Sequence[Report], path: Path) -> None:
    """One row for each case and contender."""
    rows = [_row(score) for report in found for score in report.scores]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _as_json(report: Report) -> dict[str, Any]:
    worst = {m.key: worst_style(report.styles, m) for m in MEASURES}
    return {
        "styles": {style: _figures(summary) for style, summary in report.styles.items()},
        "worst_style": {key: {"style": w[0], **_figure(w[1])} for key, w in worst.items() if w},
        "dice_by_type": _figures(report.dice_by_type),
        "lesions_found_by_type": _figures(report.lesions_by_type),
        "patients_found_by_volume": _figures(report.patients_by_volume),
        "lesions_found_by_volume": _figures(report.lesions_by_volume),
        "dice_gain": _figures(report.dice_gain),
        "calibration": _calibration(report.scores),
    }


def _figures(summary: Summary) -> dict[str, dict[str, Any]]:
    return {key: _figure(figure) for key, figure in summary.items()}


def _figure(found: Figure) -> dict[str, Any]:
    """Without the thousand draws that its interval is of."""
    return {name: value for name, value in asdict(found).items() if name != "draws"}


def _calibration(scores: Sequence[Score]) -> dict[str, Any] | None:
    """The reliability curve, and the thresholds that these cases would choose (to be used on validation cases only)."""
    histograms = [s.histogram for s in scores if s.histogram is not None]
    if not histograms:
        return None
    predicted, true, head_ml = reliability(np.stack(histograms))
    points = [(p, t, ml) for p, t, ml in zip(predicted, true, head_ml, strict=True) if ml > 0]
    return {
        "reliability": [dict(zip(("probability", "share", "head_ml"), map(float, p), strict=True)) for p in points],
        "thresholds_if_validation": _thresholds(scores),
    }


def _thresholds(scores: Sequence[Score]) -> dict[str, float] | None:
    if not any(s.bleeds for s in scores):
        return None
    return choose_thresholds([s.histogram for s in scores if s.histogram is not None]).model_dump()


def _row(score: Score) -> dict[str, Any]:
    low, high = score.interval_ml or (None, None)
    row: dict[str, Any] = {
        "case": score.case,
        "patient": score.patient,
        "style": score.style,
        "contender": score.contender,
        "truth_ml": score.all_types.truth_ml,
        "predicted_ml": score.all_types.predicted_ml,
        "low_ml": low,
        "high_ml": high,
        "dice": score.all_types.dice,
        "hd95_mm": score.hd95_mm,
        "found": score.all_types.found if score.bleeds else None,
        "lesions": len(score.lesions),
        "lesions_found": sum(lesion.found for lesion in score.lesions),
        "seconds": score.seconds,
    }
    for name in TYPES:
        part = score.by_type.get(name)
        row |= {
            f"{name}_truth_ml": part.truth_ml if part else None,
            f"{name}_predicted_ml": part.predicted_ml if part else None,
            f"{name}_dice": part.dice if part else None,
        }
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
