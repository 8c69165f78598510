"""What the review page says beside the pictures: numbers with intervals, models, decision, delivery. Plain values."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ichnode.domain.findings import EstimateName, HemorrhageType, Side
from ichnode.domain.job import Job, JobState
from ichnode.domain.reasons import EXPLAINED, Reason
from ichnode.results.provenance import SERIES_DESCRIPTIONS, Role
from ichnode.results.report_text import ReportLine, report_lines
from ichnode.results.summary_text import ESTIMATES, SIDES, TYPES
from ichnode.storage.outbox import Delivery
from ichnode.web.parts import WebParts
from ichnode.web.shown import Shown

REPORTS = (Role.MEASUREMENT_REPORT, Role.PREDICTION_REPORT, Role.OUTLINE_REPORT)
_NO_RESULT_YET = {
    JobState.IGNORED: "It was not analysed.",
    JobState.READY: "It waits to be analysed.",
    JobState.ANALYSING: "It is being analysed now.",
    JobState.REFUSED: "It was refused: the models do not read this.",
    JobState.FAILED: "The analysis failed.",
    JobState.SUPERSEDED: "A later job of the study took its place before it was analysed.",
    JobState.DROPPED: "A person ended it before it was analysed.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One row of the table of numbers."""

    name: str
    value: str  # with its unit
    interval: str = ""
    note: str = ""
    chief: bool = False  # what the eye should fall on


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one destination has of the results."""

    destination: str
    counts: tuple[tuple[str, int], ...]  # state of the delivery -> objects
    last_at: float | None
    error: str


def facts(parts: WebParts, job: Job, shown: Shown) -> dict[str, Any]:
    """The context of review.html, but for the pictures."""
    findings = job.findings or {}
    newer, older = parts.history.neighbours(job)
    return {
        "job": job,
        "shown": shown,
        "header": shown.slices[0].header if shown.slices else {},
        "no_result_yet": "" if job.findings else _NO_RESULT_YET.get(job.state, ""),
        "explained": _explained(job.reason),
        "decision_explained": _explained(job.decision_reason),
        "numbers": list(_numbers(findings)),
        "found": bool(findings.get("hematoma")),
        "models": _models(findings),
        "caveats": findings.get("caveats", ()),
        "delivered": _delivered(parts.outbox.of_job(job.id)),
        "purge": parts.history.purge(job),
        "has_reports": any(result.role in REPORTS for result in shown.results),
        "has_page": any(result.role == Role.SUMMARY_PAGE for result in shown.results),
        "newer": newer,
        "older": older,
    }


def reports(shown: Shown) -> list[tuple[str, list[ReportLine]]]:
    """The structured reports that were sent. Raises OSError, and what pydicom raises over a damaged file."""
    return [
        (SERIES_DESCRIPTIONS[role].removeprefix("AI RESEARCH: "), report_lines(result.file))
        for role in REPORTS
        for result in shown.files(role)
    ]


def _explained(reason: str) -> str:
    """The sentence behind the word of a reason; "" for what is no reason of a decision, such as a failure."""
    return EXPLAINED[Reason(reason)] if reason in set(Reason) else ""


def _numbers(findings: Mapping[str, Any]) -> Iterator[Number]:
    """Hematoma first, then what each model predicts."""
    if hematoma := findings.get("hematoma"):
        yield from _measured(hematoma)
    for said in findings.get("predictions", ()):
        yield from (_estimate(estimate) for estimate in said["estimates"])


def _measured(hematoma: Mapping[str, Any]) -> Iterator[Number]:
    area, long_axis, short_axis = (hematoma[k] for k in ("largest_area_mm2", "long_axis_mm", "short_axis_mm"))
    yield _volume("Hematoma volume", hematoma, note="interval: strict to lenient threshold", chief=True)
    for part in hematoma["parts"]:
        yield _volume(f"of it {TYPES[HemorrhageType(part['type'])].lower()}", part)
    yield Number(name="Side", value=SIDES[Side(hematoma["side"])])
    yield Number(name="Volume by ABC/2", value=f"{hematoma['abc2_ml']:.1f} mL", note="Kothari 1996")
    yield Number(name="Components", value=str(hematoma["component_count"]))
    yield Number(name="Largest slice", value=f"{area:.0f} mm²", note=f"{long_axis:.0f} × {short_axis:.0f} mm")


def _volume(name: str, measured: Mapping[str, Any], *, note: str = "", chief: bool = False) -> Number:
    value, low, high = (measured[key] for key in ("volume_ml", "volume_low_ml", "volume_high_ml"))
    return Number(name=name, value=f"{value:.1f} mL", interval=f"{low:.1f} to {high:.1f}", note=note, chief=chief)


def _estimate(estimate: Mapping[str, Any]) -> Number:
    name = EstimateName(estimate["name"])
    label, unit, decimals = ESTIMATES[name]
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    return Number(
        name=label,
        value="not estimated" if value is None else f"{value:.{decimals}f}{unit}",
        interval="" if low is None or high is None else f"{low:.{decimals}f} to {high:.{decimals}f}",
        note="; ".join(filter(None, (estimate["category"], estimate["note"]))),
        chief=name is EstimateName.EXPANSION_PROBABILITY,
    )


def _models(findings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every model that said something, once."""
    said = [findings["model"], *(each["model"] for each in findings.get("predictions", ()))] if findings else []
    return list({(model["name"], model["weights_sha256"]): model for model in said}.values())


def _delivered(deliveries: list[Delivery]) -> list[Delivered]:
    """One entry for each destination."""
    of_destination: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        of_destination.setdefault(delivery.destination, []).append(delivery)
    return [
        Delivered(
            destination=destination,
            counts=tuple(Counter(one.state for one in those).most_common()),
            last_at=max((one.delivered_at for one in those if one.delivered_at), default=None),
            error=next((one.error for one in those if one.error), ""),
        )
        for destination, those in of_destination.items()
    ]
