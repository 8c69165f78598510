"""The words of the summary page: what was found and predicted, by which model, in which study."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from ichnode.domain.findings import (
    Estimate,
    EstimateName,
    Findings,
    Hematoma,
    HematomaPart,
    HemorrhageType,
    ModelIdentity,
    Side,
)

WHITE, GREY, AMBER, RED = (235, 235, 235), (160, 160, 160), (255, 190, 60), (255, 110, 110)
_SIDES = {Side.LEFT: "left", Side.RIGHT: "right", Side.MIDLINE: "midline"}
_TYPES = {
    HemorrhageType.IPH: "Intraparenchymal",
    HemorrhageType.IVH: "Intraventricular",
    HemorrhageType.SAH: "Subarachnoid",
    HemorrhageType.SDH: "Subdural",
    HemorrhageType.EDH: "Epidural",
}
_ESTIMATES: dict[EstimateName, tuple[str, str, int]] = {  # label, unit, decimals
    EstimateName.EXPANSION_PROBABILITY: ("Expansion within 24 h", " %", 0),
    EstimateName.PREDICTED_VOLUME: ("Volume at 24 h", " mL", 1),
    EstimateName.VOLUME_CHANGE: ("Volume change in 24 h", " mL", 1),
    EstimateName.POOR_OUTCOME_PROBABILITY: ("mRS 3-6 at 90 days", " %", 0),
    EstimateName.DEATH_PROBABILITY: ("Death within 30 days", " %", 0),
    EstimateName.GCS: ("GCS estimated from image", "", 0),
    EstimateName.AGE_80_PROBABILITY: ("Age 80 or more", " %", 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One paragraph of the text column, with a value at its right edge where it has one."""

    text: str
    value: str = ""
    size: int = 18  # pixels
    colour: tuple[int, int, int] = WHITE
    space_above: int = 0  # pixels


def summary_lines(findings: Findings, models: tuple[ModelIdentity, ...], study: Dataset) -> list[Line]:
    """The text column from top to bottom; `models` are all that contributed, `study` holds date and accession."""
    lines = _found(findings.hematoma) if findings.hematoma else _not_found()
    lines += [Line(text=caveat, colour=AMBER, space_above=16) for caveat in findings.caveats]
    for position, estimate in enumerate(findings.estimates):
        if position == 0:
            lines.append(Line(text="AI prediction", size=22, colour=AMBER, space_above=22))
        lines += _estimate(estimate)
    for model in models:
        lines += _model(model)
    lines.append(Line(text="Study date", value=_date(study.get("StudyDate")), space_above=22))
    lines.append(Line(text="Accession", value=str(study.get("AccessionNumber") or "-")))
    return lines


def _found(hematoma: Hematoma) -> list[Line]:
    area, long_axis, short_axis = hematoma.largest_area_mm2, hematoma.long_axis_mm, hematoma.short_axis_mm
    return [
        Line(text="Hematoma found", size=24, colour=RED),
        Line(text=f"{hematoma.volume_ml:.1f} mL", size=64),
        Line(text=f"{hematoma.volume_low_ml:.1f} to {hematoma.volume_high_ml:.1f} mL at strict and lenient threshold"),
        *map(_part, hematoma.parts),
        Line(text="Side", value=_SIDES[hematoma.side], size=22, space_above=16),
        Line(text="Volume (ABC/2, Kothari)", value=f"{hematoma.abc2_ml:.1f} mL", size=22),
        Line(text="Components", value=f"{hematoma.component_count}", size=22),
        Line(text="Largest slice", value=f"{area:.0f} mm2, {long_axis:.0f} x {short_axis:.0f} mm"),
    ]


def _part(part: HematomaPart) -> Line:
    value = f"{part.volume_ml:.1f} mL  ({part.volume_low_ml:.1f} to {part.volume_high_ml:.1f})"
    return Line(text=_TYPES[part.type], value=value)


def _not_found() -> list[Line]:
    return [
        Line(text="No hematoma found", size=36),
        Line(text="This does not rule out hemorrhage.", colour=GREY),
    ]


def _estimate(estimate: Estimate) -> list[Line]:
    label, unit, decimals = _ESTIMATES[estimate.name]
    note = [Line(text=estimate.note, size=15, colour=GREY)] if estimate.note else []
    if estimate.value is None:
        return [Line(text=label, value="not estimated"), *note]
    value = f"{estimate.value:.{decimals}f}{unit}"
    if estimate.low is not None and estimate.high is not None:
        value += f"  ({estimate.low:.{decimals}f} to {estimate.high:.{decimals}f})"
    return [Line(text=label, value=value), *note]


def _model(model: ModelIdentity) -> list[Line]:
    return [
        Line(text=f"Model {model.name} {model.version}", space_above=22),
        Line(text=f"Weights {model.weights_sha256[:12]}, {model.family}", size=15, colour=GREY),
        Line(text=f"Trained on {model.trained_on}", colour=AMBER),
        Line(text=model.intended_use, size=15, colour=GREY),
    ]


def _date(value: object) -> str:
    """A DA value as 2026-01-31; anything else as it stands."""
    text = str(value or "-")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text
