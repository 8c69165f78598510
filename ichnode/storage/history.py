"""History: what is known about jobs, for the stages and for people. Reads only; rows become domain objects here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Text, and_, cast, func, select

from ichnode.domain.job import ON_THE_WAY, Job, JobState
from ichnode.storage.dialect import reading
from ichnode.storage.schema import associations, deliveries, events, jobs, purges, results, snapshots
from ichnode.storage.standing import Standing, read_standings


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """A composed result object on the disk."""

    role: str
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    file: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What was removed of a study, when and why. It took what the jobs up to `last_job_id` read and made."""

    study_instance_uid: str
    at: float
    reason: str  # age, space
    instances: int
    results: int
    instance_bytes: int
    result_bytes: int
    last_job_id: int

    @property
    def size_bytes(self) -> int:
        """Of instances and results together."""
        return self.instance_bytes + self.result_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One transition of a job."""

    at: float
    from_state: str | None
    to_state: str
    detail: str


class History:
    """Every job, its events and its results."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def job(self, job_id: int) -> Job | None:
        """One job, or None."""
        with reading(self._engine) as db:
            return read_job(db, job_id)

    def list_jobs(self, *, state: JobState | None = None, limit: int = 200) -> list[Job]:
        """The newest jobs first."""
        query = JOB_QUERY.order_by(jobs.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(jobs.c.state == state)
        with reading(self._engine) as db:
            return [as_job(row._mapping) for row in db.execute(query)]

    def events(self, job_id: int) -> list[Event]:
        """The story of a job, oldest first."""
        query = select(events).where(events.c.job_id == job_id).order_by(events.c.id)
        with reading(self._engine) as db:
            return [
                Event(at=row.at, from_state=row.from_state, to_state=row.to_state, detail=row.detail)
                for row in db.execute(query)
            ]

    def results(self, job_id: int) -> list[ResultFile]:
        """The result objects of a job."""
        with reading(self._engine) as db:
            rows = db.execute(select(results).where(results.c.job_id == job_id).order_by(results.c.id))
            return [_result_file(row._mapping) for row in rows]

    def standings(self, job_ids: Collection[int]) -> dict[int, Standing]:
        """What people said of the results, of those of these jobs that were judged."""
        with reading(self._engine) as db:
            return read_standings(db, select(jobs.c.id).where(jobs.c.id.in_(job_ids)))

    def seconds(self, job_id: int) -> dict[str, float]:
        """How long each step of the analysis took."""
        with reading(self._engine) as db:
            return db.execute(select(jobs.c.seconds).where(jobs.c.id == job_id)).scalar_one_or_none() or {}

    def last_received_at(self, job: Job) -> float:
        """When the last instance of the job's snapshot came in."""
        with reading(self._engine) as db:
            query = select(snapshots.c.last_received_at).where(snapshots.c.id == job.snapshot_id)
            return float(db.execute(query).scalar_one())

    def snapshot_end(self, job: Job) -> int:
        """The id of the last instance of the job's snapshot."""
        with reading(self._engine) as db:
            query = select(snapshots.c.last_instance_id).where(snapshots.c.id == job.snapshot_id)
            return int(db.execute(query).scalar_one())

    def predecessor(self, job: Job, role: str) -> ResultFile | None:
        """The newest result of `role` that an earlier job of the study under the same rule has sent or delivered."""
        query = (
            select(results)
            .join(jobs, jobs.c.id == results.c.job_id)
            .join(deliveries, deliveries.c.result_id == results.c.id)
            .where(
                jobs.c.study_instance_uid == job.study_instance_uid,
                jobs.c.rule == job.rule,
                jobs.c.id < job.id,
                results.c.role == role,
                deliveries.c.state.in_(["sent", "delivered"]),
            )
            .order_by(results.c.id.desc())
            .limit(1)
        )
        with reading(self._engine) as db:
            row = db.execute(query).first()
            return _result_file(row._mapping) if row else None

    def neighbours(self, job: Job) -> tuple[Job | None, Job | None]:
        """The newest analysed jobs of the studies that came in next after, and last before, that of `job`."""
        later = jobs.alias()
        superior = later.c.study_instance_uid == jobs.c.study_instance_uid, later.c.id > jobs.c.id
        superseded = select(later.c.id).where(*superior, _has_findings(later.c.findings)).exists()
        others = JOB_QUERY.where(
            jobs.c.study_instance_uid != job.study_instance_uid, _has_findings(jobs.c.findings), ~superseded
        )
        with reading(self._engine) as db:
            after = db.execute(others.where(jobs.c.id > job.id).order_by(jobs.c.id).limit(1)).first()
            before = db.execute(others.where(jobs.c.id < job.id).order_by(jobs.c.id.desc()).limit(1)).first()
            return (as_job(after._mapping) if after else None), (as_job(before._mapping) if before else None)

    def successor(self, job: Job) -> Job | None:
        """The newest later job of its series, which took its place."""
        with reading(self._engine) as db:
            return read_successor(db, job.id)

    def purge(self, job: Job) -> Purge | None:
        """The purge that took the instances and results of the job, if one did."""
        with reading(self._engine) as db:
            return read_purge(db, job.study_instance_uid, job.id)

    def count_by_state(self) -> dict[JobState, int]:
        """How many jobs are in each state, states without a job included."""
        with reading(self._engine) as db:
            rows = db.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        counted = {state: count for state, count in rows}
        return {state: counted.get(state, 0) for state in JobState}

    def longest_in_state(self) -> dict[JobState, float]:
        """Since when a job has been in each state on the way, at the longest; without the states that none is in."""
        query = select(jobs.c.state, func.min(jobs.c.updated_at)).where(jobs.c.state.in_(ON_THE_WAY))
        with reading(self._engine) as db:
            return {JobState(state): since for state, since in db.execute(query.group_by(jobs.c.state))}

    def last_heard(self) -> list[tuple[str, float]]:
        """Each calling AE title that ever sent, and when it last began to; the latest last."""
        began = func.max(associations.c.opened_at)
        query = select(associations.c.calling_ae_title, began).group_by(associations.c.calling_ae_title)
        with reading(self._engine) as db:
            return [(title, at) for title, at in db.execute(query.order_by(began))]


def _has_findings(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """None are NULL, or null in JSON where results were made without an analysis."""
    return func.coalesce(cast(column, Text), "null") != "null"


JOB_QUERY = select(jobs, snapshots.c.evidence).join(snapshots, snapshots.c.id == jobs.c.snapshot_id)


def read_job(db: Connection, job_id: int) -> Job | None:
    """One job as the transaction of `db` sees it."""
    row = db.execute(JOB_QUERY.where(jobs.c.id == job_id)).first()
    return as_job(row._mapping) if row else None


def read_successor(db: Connection, job_id: int) -> Job | None:
    """The newest later job of its series, as the transaction of `db` sees it."""
    before = jobs.alias()
    same_series = (
        before.c.study_instance_uid == jobs.c.study_instance_uid,
        before.c.series_instance_uid == jobs.c.series_instance_uid,
    )
    query = JOB_QUERY.join(before, and_(*same_series)).where(before.c.id == job_id, jobs.c.id > job_id)
    row = db.execute(query.order_by(jobs.c.id.desc()).limit(1)).first()
    return as_job(row._mapping) if row else None


def read_purge(db: Connection, study_instance_uid: str, job_id: int) -> Purge | None:
    """The purge that took what the job read and made, as the transaction of `db` sees it."""
    query = select(purges).where(purges.c.study_instance_uid == study_instance_uid, purges.c.last_job_id >= job_id)
    row = db.execute(query.order_by(purges.c.id).limit(1)).first()
    return as_purge(row._mapping) if row else None


def as_purge(row: Mapping[Any, Any]) -> Purge:
    """A row of `purges`."""
    return Purge(**{column: row[column] for column in row if column != "id"})


def as_job(row: Mapping[Any, Any]) -> Job:
    """A row of `JOB_QUERY`."""
    return Job(
        id=row["id"],
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        state=JobState(row["state"]),
        decision=row["decision"],
        reason=row["outcome"] or row["reason"],
        detail=row["outcome_detail"] if row["outcome"] else row["detail"],
        decision_reason=row["reason"],
        decision_detail=row["detail"],
        rule=row["rule"],
        run=tuple(row["run"]),
        send_to=tuple(row["send_to"]),
        priority=row["priority"],
        report_ignored=row["report_ignored"],
        evidence=row["evidence"],
        snapshot_id=row["snapshot_id"],
        supersedes=row["supersedes"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        findings=row["findings"],
        claim=row["claim"],
    )


def _result_file(row: Mapping[Any, Any]) -> ResultFile:
    return ResultFile(
        role=row["role"],
        sop_instance_uid=row["sop_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        series_instance_uid=row["series_instance_uid"],
        file=row["file"],
        size_bytes=row["size_bytes"],
    )
