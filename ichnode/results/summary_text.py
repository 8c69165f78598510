"""The words of the summary page: what was found and predicted, by which model, in which study."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from pydicom.dataset import Dataset

from ichnode.domain.findings import (
    Estimate,
    EstimateName,
    Findings,
    Hematoma,
    HematomaPart,
    HemorrhageType,
    ModelIdentity,
)

WHITE, GREY, AMBER, RED = (235, 235, 235), (160, 160, 160), (255, 190, 60), (255, 110, 110)
TYPES = {
    HemorrhageType.IPH: "Intraparenchymal",
    HemorrhageType.IVH: "Intraventricular",
    HemorrhageType.SAH: "Subarachnoid",
    HemorrhageType.SDH: "Subdural",
    HemorrhageType.EDH: "Epidural",
}
_ESTIMATES: dict[EstimateName, tuple[str, str, int]] = {  # label, unit, decimals
    EstimateName.EXPANSION_PROBABILITY: ("Expansion within 24 h", " %", 0),
    EstimateName.EXPANSION_3_ML_PROBABILITY: ("Expansion by 3 mL in 24 h", " %", 0),
    EstimateName.PREDICTED_VOLUME: ("Volume at 24 h", " mL", 1),
    EstimateName.VOLUME_CHANGE: ("Volume change in 24 h", " mL", 1),
    EstimateName.LATE_HEMORRHAGE_PROBABILITY: ("Bleeding on the next CT", " %", 0),
    EstimateName.POOR_OUTCOME_PROBABILITY: ("Poor outcome at 90 days", " %", 0),
    EstimateName.DEATH_PROBABILITY: ("Death within 30 days", " %", 0),
    EstimateName.VOLUME_WITHOUT_OUTLINE: ("Volume, no outline", " mL", 1),
    EstimateName.LOW_GCS_PROBABILITY: ("GCS 8 or less, from image", " %", 0),
    EstimateName.AGE_80_PROBABILITY: ("Age 80 or more, from image", " %", 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One paragraph of the text column, with a value at its right edge where it has one."""

    text: str
    value: str = ""
    size: float = 18  # pixels
    colour: tuple[int, int, int] = WHITE
    space_above: float = 0  # pixels


def summary_lines(findings: Findings, study: Dataset, *, notes: bool = True) -> list[Line]:
    """The text column from top to bottom, which says so where it is `notes` of estimates that are left out.

    `study` holds date and accession.
    """
    lines = _found(findings.hematoma) if findings.hematoma else _not_found()
    lines += [Line(text=caveat, colour=AMBER, space_above=16) for caveat in findings.caveats]
    if findings.predictions:
        lines.append(Line(text="AI prediction", size=22, colour=AMBER, space_above=16))
    for said in findings.predictions:
        lines += _estimates(said.estimates, notes=notes)
    if not notes:
        lines.append(Line(text="Notes on estimates are left out: too little room", size=15, colour=AMBER))
    for _, alike in groupby(findings.models, lambda model: (model.trained_on, model.intended_use)):
        lines += _models(list(alike))
    lines.append(Line(text="Study date", value=_date(study.get("StudyDate")), space_above=16))
    lines.append(Line(text="Accession", value=str(study.get("AccessionNumber") or "-")))
    return lines


def _found(hematoma: Hematoma) -> list[Line]:
    area, long_axis, short_axis = hematoma.largest_area_mm2, hematoma.long_axis_mm, hematoma.short_axis_mm
    return [
        Line(text="Hematoma found", size=24, colour=RED),
        Line(text=f"{hematoma.volume_ml:.1f} mL", size=64),
        Line(text=f"{hematoma.volume_low_ml:.1f} to {hematoma.volume_high_ml:.1f} mL at strict and lenient threshold"),
        *map(_part, hematoma.parts),
        Line(text="Side", value=hematoma.side, size=22, space_above=16),
        Line(text="Volume (ABC/2, Kothari)", value=f"{hematoma.abc2_ml:.1f} mL", size=22),
        Line(text="Components", value=f"{hematoma.component_count}", size=22),
        Line(text="Largest slice", value=f"{area:.0f} mm2, {long_axis:.0f} x {short_axis:.0f} mm"),
    ]


def _part(part: HematomaPart) -> Line:
    value = f"{part.volume_ml:.1f} mL  ({part.volume_low_ml:.1f} to {part.volume_high_ml:.1f})"
    return Line(text=TYPES[part.type], value=value)


def _not_found() -> list[Line]:
    return [
        Line(text="No hematoma found", size=36),
        Line(text="This does not rule out hemorrhage.", colour=GREY),
    ]


def _estimates(estimates: Sequence[Estimate], *, notes: bool) -> list[Line]:
    """A row for each, and below it what is said about it: of neighbours of whom the same is said, once."""
    lines = list[Line]()
    for said, alike in groupby(estimates, _said_about if notes else attrgetter("category")):
        lines += map(_estimate, alike)
        lines += [Line(text=said, size=15, colour=GREY)] if said else []
    return lines


def _said_about(estimate: Estimate) -> str:
    return "; ".join(filter(None, (estimate.category, estimate.note)))


def _estimate(estimate: Estimate) -> Line:
    label, unit, decimals = _ESTIMATES[estimate.name]
    if estimate.value is None:
        return Line(text=label, value="not estimated")
    value = f"{estimate.value:.{decimals}f}{unit}"
    if estimate.low is not None and estimate.high is not None:
        value += f"  ({estimate.low:.{decimals}f} to {estimate.high:.{decimals}f})"
    return Line(text=label, value=value)


def _models(models: Sequence[ModelIdentity]) -> list[Line]:
    """Those that were trained on the same."""
    first = models[0]
    lines = [Line(text=f"{m.name} {m.version}", value=f"weights {m.weights_sha256[:12]}", size=15) for m in models]
    return [
        replace(lines[0], space_above=16),
        *lines[1:],
        Line(text=f"Trained on {first.trained_on}", colour=AMBER),
        Line(text=first.intended_use, size=15, colour=GREY),
    ]


def _date(value: object) -> str:
    """A DA value as 2026-01-31; anything else as it stands."""
    text = str(value or "-")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text
