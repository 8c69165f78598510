"""Work list: studies as people look at them, with their series, jobs, steps and deliveries. Reads only.

A page of studies takes the same few queries however many there are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Row,
    ScalarSelect,
    Select,
    and_,
    func,
    or_,
    select,
    true,
)

from ichnode.domain.audit import AuditEvent
from ichnode.domain.job import ON_THE_WAY, Job, JobState
from ichnode.domain.judgement import NOTE_ROLE
from ichnode.storage.dialect import reading
from ichnode.storage.history import JOB_QUERY, Event, as_job
from ichnode.storage.schema import (
    associations,
    audit,
    deliveries,
    events,
    instances,
    jobs,
    purges,
    results,
    snapshots,
    studies,
)
from ichnode.storage.standing import Standing, read_standings

_LOOKED = (AuditEvent.RESULTS_VIEWED, AuditEvent.AUDIT_READ)  # which changes nothing


class Group(StrEnum):
    """What a person may want to see of the list."""

    ALL = "all"
    ON_THE_WAY = "on_the_way"
    ATTENTION = "attention"  # failed or refused
    DONE = "done"
    NOT_ANALYSED = "not_analysed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job with its story, and how many deliveries each destination has in each state, rejection notes apart."""

    job: Job
    events: tuple[Event, ...]
    deliveries: Mapping[str, Mapping[str, int]]
    notes: Mapping[str, Mapping[str, int]]  # which withdraw what is counted among the deliveries
    standing: Standing | None  # None: nobody judged its results


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSeries:
    """A series with its jobs, the newest first. `header` and `instances` are empty of what was purged."""

    series_instance_uid: str
    header: Mapping[str, Any] = field(repr=False)
    instances: int
    jobs: tuple[ListedJob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedStudy:
    """A study that ever came in."""

    study_instance_uid: str
    last_received_at: float
    last_instance_id: int
    waiting: bool  # for more instances, or for a decision
    source: str | None  # calling AE title; None: purged
    header: Mapping[str, Any] = field(repr=False)  # of the first instance that is here
    file: str | None  # of that instance
    evidence: str | None  # of completeness; None: no snapshot yet
    completed_at: float | None  # when the newest snapshot was taken
    purged_at: float | None
    series: tuple[ListedSeries, ...] = ()


class WorkList:
    """Questions that the work list and the page of a study ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def mark(self) -> tuple[int, int, int]:
        """Changes whenever the list may have: by a job's step, an instance, or anything audited but a look at it."""
        newest = audit.c.sequence.desc()
        changed = select(audit.c.sequence).where(audit.c.event.not_in(_LOOKED)).order_by(newest).limit(1)
        marks = select(func.max(events.c.id)), select(func.max(instances.c.id)), changed
        with reading(self._engine) as db:
            step, instance, audited = (db.execute(mark).scalar() or 0 for mark in marks)
        return step, instance, audited

    def newest(self, group: Group, *, limit: int, before: int | None = None) -> list[ListedStudy]:
        """Studies without their series, the one with the latest instance first; `before` that last instance's id."""
        chosen = select(studies).where(_IN_GROUP[group]).order_by(studies.c.last_instance_id.desc()).limit(limit)
        if before is not None:
            chosen = chosen.where(studies.c.last_instance_id < before)
        with reading(self._engine) as db:
            return [_as_study(row) for row in db.execute(_studies(chosen))]

    def study(self, study_instance_uid: str) -> ListedStudy | None:
        """One study with its series, or None."""
        chosen = select(studies).where(studies.c.study_instance_uid == study_instance_uid)
        with reading(self._engine) as db:
            row = db.execute(_studies(chosen)).first()
        return self.with_series([_as_study(row)])[0] if row else None

    def with_series(self, listed: Sequence[ListedStudy]) -> list[ListedStudy]:
        """The same studies with their series and jobs."""
        uids = [study.study_instance_uid for study in listed]
        with reading(self._engine) as db:
            jobs_of = _jobs(db, uids)
            here = _series_here(db, uids)
        return [
            _with_series(study, here.get(study.study_instance_uid, {}), jobs_of.get(study.study_instance_uid, {}))
            for study in listed
        ]


def _studies(chosen: Select[Any]) -> Select[Any]:
    """What is shown of the chosen rows of `studies`; looked up for these alone."""
    of = chosen.subquery()

    def last(column: Column[Any], study: Column[Any], pick: Any = func.max) -> ScalarSelect[Any]:
        return select(pick(column)).where(study == of.c.study_instance_uid).correlate(of).scalar_subquery()

    return (
        select(
            of,
            instances.c.header,
            instances.c.file,
            associations.c.calling_ae_title,
            snapshots.c.evidence,
            snapshots.c.taken_at,
            last(purges.c.at, purges.c.study_instance_uid).label("purged_at"),
        )
        .select_from(of)
        .outerjoin(instances, instances.c.id == last(instances.c.id, instances.c.study_instance_uid, func.min))
        .outerjoin(associations, associations.c.id == instances.c.association_id)
        .outerjoin(snapshots, snapshots.c.id == last(snapshots.c.id, snapshots.c.study_instance_uid))
        .order_by(of.c.last_instance_id.desc())
    )


def _has_job(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """By one look at all such jobs: SQLite looks at all of them again for each study where that is an EXISTS."""
    return studies.c.study_instance_uid.in_(select(jobs.c.study_instance_uid).where(*which))


def _in_state(states: Collection[JobState]) -> ColumnElement[bool]:
    return _has_job(jobs.c.state.in_(states))


_IN_GROUP: Mapping[Group, ColumnElement[bool]] = {
    Group.ALL: true(),
    Group.ON_THE_WAY: or_(studies.c.waiting, _in_state(ON_THE_WAY)),
    Group.ATTENTION: _in_state((JobState.FAILED, JobState.REFUSED)),
    Group.DONE: _in_state((JobState.DONE,)),
    Group.NOT_ANALYSED: and_(~studies.c.waiting, ~_has_job(jobs.c.decision == "analyse")),
}


def _as_study(row: Row[Any]) -> ListedStudy:
    return ListedStudy(
        study_instance_uid=row.study_instance_uid,
        last_received_at=row.last_received_at,
        last_instance_id=row.last_instance_id,
        waiting=row.waiting,
        source=row.calling_ae_title,
        header=row.header or {},
        file=row.file,
        evidence=row.evidence,
        completed_at=row.taken_at,
        purged_at=row.purged_at,
    )


def _series_here(db: Connection, uids: Sequence[str]) -> dict[str, dict[str, tuple[int, Mapping[str, Any]]]]:
    """Study and series -> how many instances are here, and the header of the first."""
    key = instances.c.study_instance_uid, instances.c.series_instance_uid
    counted = (
        select(func.count().label("count"), func.min(instances.c.id).label("first"))
        .where(instances.c.study_instance_uid.in_(uids))
        .group_by(*key)
        .subquery()
    )
    query = select(*key, counted.c["count"], instances.c.header).join(counted, counted.c.first == instances.c.id)
    found: dict[str, dict[str, tuple[int, Mapping[str, Any]]]] = {}
    for study, series, count, header in db.execute(query):
        found.setdefault(study, {})[series] = (count, header)
    return found


_Counted = dict[int, dict[str, dict[str, int]]]  # job, destination and state of the delivery -> how many


def _jobs(db: Connection, uids: Sequence[str]) -> dict[str, dict[str, list[ListedJob]]]:
    """Study and series -> jobs, the newest first."""
    chosen = jobs.c.study_instance_uid.in_(uids)
    ids = select(jobs.c.id).where(chosen)
    stories: dict[int, list[Event]] = {}
    for row in db.execute(select(events).where(events.c.job_id.in_(ids)).order_by(events.c.id)):
        event = Event(at=row.at, from_state=row.from_state, to_state=row.to_state, detail=row.detail)
        stories.setdefault(row.job_id, []).append(event)
    sent, notes = _deliveries(db, ids)
    standings = read_standings(db, ids)
    found: dict[str, dict[str, list[ListedJob]]] = {}
    for row in db.execute(JOB_QUERY.where(chosen).order_by(jobs.c.id.desc())):
        job = as_job(row._mapping)
        listed = ListedJob(
            job=job,
            events=tuple(stories.get(job.id, ())),
            deliveries=sent.get(job.id, {}),
            notes=notes.get(job.id, {}),
            standing=standings.get(job.id),
        )
        found.setdefault(job.study_instance_uid, {}).setdefault(job.series_instance_uid, []).append(listed)
    return found


def _deliveries(db: Connection, ids: Select[Any]) -> tuple[_Counted, _Counted]:
    """Of results, and of rejection notes."""
    kinds = deliveries.c.job_id, deliveries.c.destination, deliveries.c.state, results.c.role
    counted = select(*kinds, func.count()).join(results, results.c.id == deliveries.c.result_id)
    sent: _Counted = {}
    notes: _Counted = {}
    for job_id, destination, state, role, count in db.execute(
        counted.where(deliveries.c.job_id.in_(ids)).group_by(*kinds).order_by(*kinds)
    ):
        states = (notes if role == NOTE_ROLE else sent).setdefault(job_id, {}).setdefault(destination, {})
        states[state] = states.get(state, 0) + count
    return sent, notes


def _with_series(
    study: ListedStudy,
    here: Mapping[str, tuple[int, Mapping[str, Any]]],
    jobs_of: Mapping[str, Sequence[ListedJob]],
) -> ListedStudy:
    """Series that are analysed come first, then in order of their numbers."""
    listed = []
    for uid in dict.fromkeys([*here, *jobs_of]):
        count, header = here.get(uid, (0, {}))
        listed.append(
            ListedSeries(series_instance_uid=uid, header=header, instances=count, jobs=tuple(jobs_of.get(uid, ())))
        )
    return replace(study, series=tuple(sorted(listed, key=_place)))


def _place(series: ListedSeries) -> tuple[bool, int, str]:
    number = series.header.get("SeriesNumber")
    analysed = any(listed.job.decision == "analyse" for listed in series.jobs)
    return not analysed, number if isinstance(number, int) else 0, series.series_instance_uid
