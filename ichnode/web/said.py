"""What models said about a series, from the findings of a job, as lines with unit and interval for people to read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_LINES: Mapping[str, tuple[str, str, str, int]] = {  # long and short label, unit, decimals
    "expansion_probability": ("Expansion within 24 h", "P(expansion)", "%", 0),
    "predicted_volume": ("Volume at 24 h", "at 24 h", "mL", 1),
    "volume_change": ("Volume change in 24 h", "change", "mL", 1),
    "late_hemorrhage_probability": ("Bleeding on the next CT", "P(late bleeding)", "%", 0),
    "poor_outcome_probability": ("Poor outcome at 90 days", "P(poor outcome)", "%", 0),
    "death_probability": ("Death within 30 days", "P(death, 30 d)", "%", 0),
    "volume_without_outline": ("Volume, no outline", "no outline", "mL", 1),
    "low_gcs_probability": ("GCS 8 or less, from image", "P(GCS ≤ 8)", "%", 0),
    "age_80_probability": ("Age 80 or more, from image", "P(age ≥ 80)", "%", 0),
}
_AT_A_GLANCE = ("expansion_probability", "poor_outcome_probability", "death_probability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One statement. `value` is "not estimated" where the model abstained; `note` says why, or what limits it."""

    label: str
    short: str
    value: str
    interval: str = ""
    note: str = ""
    model: str = ""


def lines(findings: Mapping[str, Any], *, masked: bool) -> list[Line]:
    """Everything that was said: the hematoma first, then each model's estimates. Masked: not what it was told."""
    said = [_hematoma(findings), *(line for _, line in _estimates(findings))]
    return [replace(line, note=without_told(line.note)) for line in said] if masked else said


def at_a_glance(findings: Mapping[str, Any]) -> list[Line]:
    """Volume, expansion and prognosis, of what was estimated."""
    chosen = [line for name, line in _estimates(findings) if name in _AT_A_GLANCE and line.value != _ABSTAINED]
    return [_hematoma(findings), *chosen]


def volume_ml(findings: Mapping[str, Any] | None) -> float:
    """To sort by; -1 without findings."""
    hematoma = (findings or {}).get("hematoma")
    return float(hematoma["volume_ml"]) if hematoma else 0.0 if findings else -1.0


def expansion_percent(findings: Mapping[str, Any] | None) -> float:
    """To sort by; -1 where it was not estimated."""
    for said in (findings or {}).get("predictions", ()):
        for estimate in said["estimates"]:
            if estimate["name"] == "expansion_probability" and estimate["value"] is not None:
                return float(estimate["value"])
    return -1.0


_ABSTAINED = "not estimated"
_TOLD = "told of the patient"  # age and the like, in the note of the expansion model


def without_told(note: str) -> str:
    """A note, or the line of a report, but for what the model was told of the patient."""
    return "; ".join(part for part in note.split("; ") if not part.startswith(_TOLD))


def _hematoma(findings: Mapping[str, Any]) -> Line:
    model, hematoma = _model(findings["model"]), findings["hematoma"]
    if hematoma is None:
        note = "This does not rule out hemorrhage."
        return Line(label="Hematoma", short="", value="No hematoma found", note=note, model=model)
    types = "+".join(part["type"] for part in hematoma.get("parts", ()))
    return Line(
        label="Hematoma",
        short=" ".join(filter(None, (str(hematoma["side"]), types))),
        value=f"{hematoma['volume_ml']:.1f} mL",
        interval=f"{hematoma['volume_low_ml']:.1f} to {hematoma['volume_high_ml']:.1f} mL",
        note="; ".join(filter(None, (types, f"side: {hematoma['side']}", f"ABC/2 {hematoma['abc2_ml']:.1f} mL"))),
        model=model,
    )


def _estimates(findings: Mapping[str, Any]) -> Iterator[tuple[str, Line]]:
    for said in findings.get("predictions", ()):
        for estimate in said["estimates"]:
            name = estimate["name"]
            long, short, unit, decimals = _LINES.get(name, (name, name, "", 1))
            value, low, high = estimate["value"], estimate["low"], estimate["high"]
            whole = low is not None and high is not None
            yield (
                name,
                Line(
                    label=long,
                    short=short,
                    value=_ABSTAINED if value is None else f"{value:.{decimals}f} {unit}",
                    interval=f"{low:.{decimals}f} to {high:.{decimals}f} {unit}" if whole else "",
                    note="; ".join(filter(None, (estimate.get("category"), estimate.get("note")))),
                    model=_model(said["model"]),
                ),
            )


def _model(model: Mapping[str, Any]) -> str:
    return f"{model['name']} {model['version']}"
