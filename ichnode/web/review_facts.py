"""What the review page says beside the pictures: numbers with intervals, models, decision, delivery. Plain values."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ichnode.domain.findings import HemorrhageType, ModelIdentity
from ichnode.domain.job import Job, JobState
from ichnode.domain.reasons import EXPLAINED, Reason
from ichnode.results.provenance import SERIES_DESCRIPTIONS, Role
from ichnode.results.report_text import ReportLine, report_lines
from ichnode.results.summary_text import TYPES
from ichnode.storage.outbox import Delivery
from ichnode.web.parts import WebParts
from ichnode.web.patient import Patient
from ichnode.web.said import Line, amount, at_a_glance, lines, volume, without_told
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
class Delivered:
    """What one destination has of the results."""

    destination: str
    counts: tuple[tuple[str, int], ...]  # state of the delivery -> objects
    last_at: float | None
    error: str


def facts(parts: WebParts, job: Job, shown: Shown, patient: Patient) -> dict[str, Any]:
    """The context of review.html, but for the pictures."""
    findings = job.findings or {}
    masked, hematoma = not parts.patients_shown, findings.get("hematoma")
    said = lines(findings, masked=masked) if findings else []
    newer, older = parts.history.neighbours(job)
    return {
        "job": job,
        "patient": patient,
        "shown": shown,
        "header": shown.first.header if shown.first else {},
        "no_result_yet": "" if job.findings else _NO_RESULT_YET.get(job.state, ""),
        "explained": _explained(job.reason),
        "decision_explained": _explained(job.decision_reason),
        "chief": at_a_glance(findings) if findings else [],
        "numbers": [*_measured(hematoma, said[0].model), *said[1:]] if hematoma else said,
        "found": bool(hematoma),
        "models": _models(findings),
        "caveats": findings.get("caveats", ()),
        "delivered": _delivered([one for one in parts.outbox.of_job(job.id) if one.role != Role.REJECTION_NOTE]),
        "standing": parts.history.standings([job.id]).get(job.id),
        "successor": parts.history.successor(job),
        "purge": parts.history.purge(job),
        "has_reports": any(result.role in REPORTS for result in shown.results),
        "has_page": any(result.role == Role.SUMMARY_PAGE for result in shown.results),
        "masked": masked,
        "newer": newer,
        "older": older,
    }


def reports(shown: Shown, *, masked: bool) -> list[tuple[str, list[ReportLine]]]:
    """The structured reports that were sent; masked: without what models were told of the patient.

    Raises OSError, and what pydicom raises over a damaged file.
    """
    found = []
    for role in REPORTS:
        for result in shown.files(role):
            said = report_lines(result.file)
            said = [replace(line, value=without_told(line.value)) for line in said] if masked else said
            found.append((title(role), said))
    return found


def title(role: Role) -> str:
    """What the page calls a result; that it is research stands above all of them."""
    return SERIES_DESCRIPTIONS[role].removeprefix("AI RESEARCH: ")


def _explained(reason: str) -> str:
    """The sentence behind the word of a reason; "" for what is no reason of a decision, such as a failure."""
    return EXPLAINED[Reason(reason)] if reason in set(Reason) else ""


def _measured(hematoma: Mapping[str, Any], model: str) -> Iterator[Line]:
    """All that was measured on the hematoma."""
    long_axis, short_axis = amount(hematoma.get("long_axis_mm"), "×", 0), amount(hematoma.get("short_axis_mm"), "mm", 0)
    yield _volume("Hematoma", hematoma, model, note="interval: strict to lenient threshold")
    for part in hematoma.get("parts", ()):
        yield _volume(f"of it {_type(part.get('type', '–'))}", part, model)
    for label, value, note in (
        ("Side", hematoma.get("side", "–"), ""),
        ("Volume by ABC/2", amount(hematoma.get("abc2_ml"), "mL"), "Kothari 1996"),
        ("Components", str(hematoma.get("component_count", "–")), ""),
        ("Largest slice", amount(hematoma.get("largest_area_mm2"), "mm²", 0), f"{long_axis} {short_axis}"),
    ):
        yield Line(label=label, short="", value=value, note=note, model=model)


def _volume(label: str, measured: Mapping[str, Any], model: str, *, note: str = "") -> Line:
    value, interval = volume(measured)
    return Line(label=label, short="", value=value, interval=interval, note=note, model=model)


def _type(name: str) -> str:
    """A type of hemorrhage in words; one that this version does not know, as it is called."""
    return TYPES[HemorrhageType(name)].lower() if name in set(HemorrhageType) else name


def _models(findings: Mapping[str, Any]) -> list[ModelIdentity]:
    """Every model that said something, once."""
    said = [each["model"] for each in (findings, *findings.get("predictions", ())) if "model" in each]
    return list(dict.fromkeys(ModelIdentity.as_stored(model) for model in said))


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
