"""The work list and the page of one study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ichnode.domain.job import ON_THE_WAY, UNFINISHED, JobState
from ichnode.domain.reasons import EXPLAINED, Reason
from ichnode.storage.worklist import Group, ListedJob, ListedSeries, ListedStudy
from ichnode.web import said
from ichnode.web.pages import Pages, number_of, words
from ichnode.web.parts import WebParts
from ichnode.web.patient import Patient, Patients

_ON_A_PAGE = 100
_SEARCHED = 1000  # the newest studies that a search looks at
_RETRIED = (JobState.FAILED, JobState.REFUSED, JobState.DROPPED)
_TONES = {
    JobState.DONE: "good",
    JobState.FAILED: "bad",
    JobState.REFUSED: "warn",
    JobState.SUPERSEDED: "quiet",
    JobState.DROPPED: "quiet",
    JobState.IGNORED: "quiet",
}
_ARRIVED = {"sent", "delivered"}  # states of a delivery
_STEPS = {
    JobState.READY: "decided",
    JobState.IGNORED: "decided",
    JobState.ANALYSING: "analysis began",
    JobState.DELIVERING: "results composed",
    JobState.DONE: "delivered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One point of a timeline."""

    name: str
    at: float
    after_s: float  # the step before
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as a page shows it."""

    listed: ListedJob
    steps: Sequence[Step]
    took_s: float | None  # from the last instance to the end, once it ended
    glance: Sequence[said.Line]
    lines: Sequence[said.Line]
    can: frozenset[str]  # actions

    @property
    def tone(self) -> str:
        """The colour of its state."""
        return _TONES.get(self.listed.job.state, "accent")

    @property
    def void(self) -> str:
        """Why its findings count no longer, in a word or three; "" where they do."""
        standing = self.listed.standing
        return standing.words if standing and not standing.counts else ""

    @property
    def stands(self) -> bool:
        """Whether its findings count and destinations have them, or would if it had any."""
        sent = any(_ARRIVED & states.keys() for states in self.listed.deliveries.values())
        return not self.void and (sent or self.listed.job.state is JobState.DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRow:
    """A series as a page shows it."""

    listed: ListedSeries
    name: str
    job: JobRow | None  # the newest
    older: Sequence[JobRow]

    @property
    def earlier(self) -> JobRow | None:
        """The job whose findings stand while the newest has none: it is not analysed, or not yet."""
        before = None if self.job and self.job.glance else next((job for job in self.older if job.glance), None)
        return before if before and before.stands else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """A study as a page shows it."""

    listed: ListedStudy
    patient: Patient
    description: str
    chosen: Sequence[SeriesRow]  # analysed, or asked for
    others: Sequence[SeriesRow]

    @property
    def newest(self) -> JobRow | None:
        """The job that the list sorts by."""
        return next((series.job for series in self.chosen if series.job), None)

    @property
    def found(self) -> Sequence[SeriesRow]:
        """Those of which the list tells findings: of what is not analysed, those that stand."""
        return [*self.chosen, *(series for series in self.others if series.earlier)]


def _findings(row: StudyRow) -> Mapping[str, Any] | None:
    """Of the newest job, where they count; where it has none, those that stand."""
    if row.newest and row.newest.glance:
        return None if row.newest.void else row.newest.listed.job.findings
    return next((series.earlier.listed.job.findings for series in row.found if series.earlier), None)


_SORTS: Mapping[str, Callable[[StudyRow], Any]] = {
    "patient": lambda row: row.patient.name.casefold(),
    "volume": lambda row: -said.volume_ml(_findings(row)),
    "expansion": lambda row: -said.expansion_percent(_findings(row)),
    "state": lambda row: row.newest.listed.job.state if row.newest else "",
    "stat": lambda row: row.newest is None or row.newest.listed.job.priority != "stat",
}


def worklist_routes(parts: WebParts, pages: Pages) -> list[Route]:
    """/ and /studies/{study_instance_uid}."""
    patients = pages.patients

    def work_list(request: Request) -> Response:
        asked = request.query_params
        group = Group(asked["show"]) if asked.get("show") in set(Group) else Group.ALL
        text, sort = asked.get("text", "").strip(), asked.get("sort", "arrival")
        before = number_of(asked.get("before", ""))
        found = parts.work_list.newest(group, limit=_SEARCHED if text else _ON_A_PAGE, before=before)
        full = len(found) == (_SEARCHED if text else _ON_A_PAGE)
        if text:
            found = [study for study in found if _fits(study, patients.of(study.file), text, parts.patients_shown)]
        rows = [_study_row(study, patients) for study in parts.work_list.with_series(found[:_ON_A_PAGE])]
        if sort in _SORTS:
            rows.sort(key=_SORTS[sort])
        return pages.html(
            request,
            "worklist.html",
            rows=rows,
            group=group,
            groups=Group,
            text=text,
            sort=sort,
            sorts=("arrival", *_SORTS),
            more=found[-1].last_instance_id if full and found and not text else None,
            searched=_SEARCHED if text else None,
            counts=parts.history.count_by_state(),
            on_the_way=ON_THE_WAY,
        )

    def study(request: Request) -> Response:
        found = parts.work_list.study(request.path_params["study_instance_uid"])
        if found is None:
            raise HTTPException(404)
        return pages.html(
            request,
            "study.html",
            row=_study_row(found, patients),
            explained=EXPLAINED,
            conflicts=parts.intake.conflicts(found.study_instance_uid),
            rules=[rule.name for rule in parts.rules],
        )

    return [Route("/", work_list), Route("/studies/{study_instance_uid}", study)]


def _fits(study: ListedStudy, patient: Patient, text: str, shown: bool) -> bool:
    """Whether a search finds it; what is masked is found by the whole of it alone."""
    if text in (patient.patient_id, patient.accession_number):
        return True
    seen = [study.study_instance_uid, study.source or "", _described(study.header)]
    seen += [patient.name, *patient.about] if shown else []
    return all(any(word in part.casefold() for part in seen) for word in text.casefold().split())


def _described(header: Mapping[str, Any]) -> str:
    return str(header.get("StudyDescription") or header.get("ProtocolName") or "")


def _study_row(study: ListedStudy, patients: Patients) -> StudyRow:
    series = [_series_row(study, one, masked=not patients.shown) for one in study.series]
    return StudyRow(
        listed=study,
        patient=patients.of(study.file),
        description=_described(study.header),
        chosen=[row for row in series if row.job and row.job.listed.job.state is not JobState.IGNORED],
        others=[row for row in series if not row.job or row.job.listed.job.state is JobState.IGNORED],
    )


def _series_row(study: ListedStudy, series: ListedSeries, *, masked: bool) -> SeriesRow:
    number, name = series.header.get("SeriesNumber"), str(series.header.get("SeriesDescription") or "")
    rows = [_job_row(study, listed, newest=listed is series.jobs[0], masked=masked) for listed in series.jobs]
    shown = " ".join(filter(None, (str(number or ""), name))) or "series without a description"
    return SeriesRow(listed=series, name=shown, job=rows[0] if rows else None, older=rows[1:])


def _job_row(study: ListedStudy, listed: ListedJob, *, newest: bool, masked: bool) -> JobRow:
    job = listed.job
    steps = list[Step]()
    if newest and study.completed_at is not None:
        steps.append(Step(name="last image", at=study.last_received_at, after_s=0))
        name, after_s = f"complete: {words(study.evidence or '')}", study.completed_at - study.last_received_at
        steps.append(Step(name=name, at=study.completed_at, after_s=after_s))
    for event in listed.events:
        state = JobState(event.to_state)
        name = "tried again" if state is JobState.READY and event.from_state else _STEPS.get(state, state.value)
        after_s = event.at - steps[-1].at if steps else 0
        steps.append(Step(name=name, at=event.at, after_s=after_s, tone=_TONES.get(state, "")))
    ended = job.state not in ON_THE_WAY and job.decision_reason == Reason.CHOSEN
    took_s = job.updated_at - study.last_received_at
    return JobRow(
        listed=listed,
        steps=steps,
        took_s=took_s if ended and newest and took_s >= 0 else None,  # less: something came since
        glance=said.at_a_glance(job.findings) if job.findings else (),
        lines=said.lines(job.findings, masked=masked) if job.findings else (),
        can=_actions(listed, purged=bool(study.purged_at), newest=newest),
    )


def _actions(listed: ListedJob, *, purged: bool, newest: bool) -> frozenset[str]:
    """What a person may do to it. The ledger asks again, in the transaction."""
    job = listed.job
    can = {
        "retry": newest and not purged and job.state in _RETRIED,
        "drop": job.state in UNFINISHED,
        "stat": job.state in UNFINISHED and job.priority != "stat",
        "rerun": newest and not purged,
    }
    return frozenset(action for action, possible in can.items() if possible)
