"""What models said about a series, from the findings of a job, as lines with unit and interval for people to read.

Findings may be those of another version: what they lack is a dash, never a page that fails.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_LINES: Mapping[str, tuple[str, str, str, int]] = {  # long and short label, unit, decimals
    "expansion_probability": ("Expansion within 24 h", "P(expansion)", "%", 0),
    "expansion_3_ml_probability": ("Expansion by 3 mL in 24 h", "P(3 mL)", "%", 0),
    "predicted_volume": ("Volume at 24 h", "at 24 h", "mL", 1),
    "volume_change": ("Volume change in 24 h", "change", "mL", 1),
    "late_hemorrhage_probability": ("Bleeding on the next CT", "P(late bleeding)", "%", 0),
    "poor_outcome_probability": ("Poor outcome at 90 days", "P(poor outcome)", "%", 0),
    "death_probability": ("Death within 30 days", "P(death, 30 d)", "%", 0),
    "volume_without_outline": ("Volume by the model that outlines nothing", "no outline", "mL", 1),
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
    if hematoma:
        return float(hematoma.get("volume_ml", -1))
    return 0.0 if findings and "hematoma" in findings else -1.0


def expansion_percent(findings: Mapping[str, Any] | None) -> float:
    """To sort by; -1 where it was not estimated."""
    for said in (findings or {}).get("predictions", ()):
        for estimate in said.get("estimates", ()):
            if estimate.get("name") == "expansion_probability" and estimate.get("value") is not None:
                return float(estimate["value"])
    return -1.0


_ABSTAINED = "not estimated"
_TOLD = "told of the patient"  # age and the like, in the note of the expansion model


def without_told(note: str) -> str:
    """A note, or the line of a report, but for what the model was told of the patient."""
    return "; ".join(part for part in note.split("; ") if not part.startswith(_TOLD))


def amount(value: float | None, unit: str, digits: int = 1) -> str:
    """A number with its unit.

    >>> amount(12.34, "mL"), amount(None, "mL")
    ('12.3 mL', '–')
    """
    return "–" if value is None else f"{value:.{digits}f} {unit}"


def interval(low: float | None, high: float | None, unit: str, digits: int = 1) -> str:
    """Both ends of it; "" where one is not known.

    >>> interval(1, 2, "mL"), interval(None, 2, "mL")
    ('1.0 to 2.0 mL', '')
    """
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f} {unit}"


def volume(measured: Mapping[str, Any]) -> tuple[str, str]:
    """Of a hematoma or a part of it, with its interval."""
    low, high = measured.get("volume_low_ml"), measured.get("volume_high_ml")
    return amount(measured.get("volume_ml"), "mL"), interval(low, high, "mL")


def _hematoma(findings: Mapping[str, Any]) -> Line:
    model, hematoma = _model(findings), findings.get("hematoma")
    if "hematoma" not in findings:
        return Line(label="Hematoma", short="", value="–", model=model)
    if hematoma is None:
        note = "This does not rule out hemorrhage."
        return Line(label="Hematoma", short="", value="No hematoma found", note=note, model=model)
    types = "+".join(part["type"] for part in hematoma.get("parts", ()) if "type" in part)
    side, (value, between) = hematoma.get("side", "–"), volume(hematoma)
    return Line(
        label="Hematoma",
        short=" ".join(filter(None, (str(side), types))),
        value=value,
        interval=between,
        note="; ".join(filter(None, (types, f"side: {side}", f"ABC/2 {amount(hematoma.get('abc2_ml'), 'mL')}"))),
        model=model,
    )


def _estimates(findings: Mapping[str, Any]) -> Iterator[tuple[str, Line]]:
    for said in findings.get("predictions", ()):
        for estimate in said.get("estimates", ()):
            name = estimate.get("name", "–")
            long, short, unit, decimals = _LINES.get(name, (name, name, "", 1))
            value, category = estimate.get("value"), estimate.get("category")
            if name == "low_gcs_probability" and category:
                category = f"most likely {category}"
            yield (
                name,
                Line(
                    label=long,
                    short=short,
                    value=_ABSTAINED if value is None else amount(value, unit, decimals),
                    interval=interval(estimate.get("low"), estimate.get("high"), unit, decimals),
                    note="; ".join(filter(None, (category, estimate.get("note")))),
                    model=_model(said),
                ),
            )


def _model(said: Mapping[str, Any]) -> str:
    model = said.get("model", {})
    return f"{model.get('name', '–')} {model.get('version', '')}".strip()
