"""Ledger: the guarded transitions of jobs between their states, each with the event that tells of it.

A state changes only by an UPDATE that also tests the state it starts from, in one transaction with its event row. So
work may be offered twice, but is done once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, func, insert, select, update

from ichnode.domain.audit import AuditEvent, AuditOutcome, pseudonym
from ichnode.domain.job import MAX_ATTEMPTS, MAX_INTERRUPTIONS, ON_THE_WAY, TRANSITIONS, UNFINISHED, Job, JobState
from ichnode.domain.judgement import NOTE_ROLE
from ichnode.domain.reasons import Reason
from ichnode.errors import StaleClaim
from ichnode.faults import point
from ichnode.storage.audit import append_audit
from ichnode.storage.dialect import reading
from ichnode.storage.history import ResultFile, read_job, read_purge, read_successor
from ichnode.storage.nodes import living_names
from ichnode.storage.schema import deliveries, events, jobs, results, snapshots, studies, withdrawals
from ichnode.storage.work_queue import Offer

NODE = "ichnode"  # who does it, in the audit trail
_STAT = 0
_PRIORITY_RANK = {"stat": _STAT, "routine": 1}
_LAST_CLAIMED = (  # the rank of the job that was last taken to be analysed
    select(jobs.c.priority_rank)
    .join(events, events.c.job_id == jobs.c.id)
    .where(events.c.to_state == JobState.ANALYSING)
    .order_by(events.c.id.desc())
    .limit(1)
    .correlate(None)
    .scalar_subquery()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """What a decision wants done with one series."""

    series_instance_uid: str
    state: JobState  # READY or IGNORED
    decision: str
    reason: str
    detail: str
    rule: str | None
    run: tuple[str, ...]
    send_to: tuple[str, ...]
    priority: str
    report_ignored: bool
    input_sha256: str


class Ledger:
    """The truth about every job. `node` is who claims, where several nodes share it."""

    def __init__(
        self, engine: Engine, *, node: str | None = None, routine_waits_at_most_s: float = float("inf")
    ) -> None:
        self._engine = engine
        self._node = node
        self._routine_waits_at_most_s = routine_waits_at_most_s  # then it takes turns with STAT

    def record_decisions(
        self,
        study_instance_uid: str,
        planned: Sequence[PlannedJob],
        *,
        last_instance_id: int,
        last_received_at: float,
        evidence: str,
        at: float,
    ) -> tuple[PlannedJob, ...] | None:
        """Take the snapshot and open its jobs, all or nothing. None when a later instance came in the meantime.

        A series whose planned input equals that of its newest job keeps that job; so it does where that one was made by
        hand and the input equals that of the newest job before it that was not. Any other job of the series that is not
        finished is superseded, and its undelivered results are cancelled. Returned are the plans that became jobs.
        """
        with self._engine.begin() as db:
            taken = db.execute(
                update(studies)
                .where(
                    studies.c.study_instance_uid == study_instance_uid,
                    studies.c.last_instance_id == last_instance_id,
                    studies.c.waiting,
                )
                .values(waiting=False)
            )
            if taken.rowcount != 1:
                return None
            snapshot_id = db.execute(
                insert(snapshots)
                .values(
                    study_instance_uid=study_instance_uid,
                    last_instance_id=last_instance_id,
                    evidence=evidence,
                    taken_at=at,
                    last_received_at=last_received_at,
                )
                .returning(snapshots.c.id)
            ).scalar_one()
            point("snapshot_written", study_instance_uid)
            return tuple(plan for plan in planned if _open_job(db, study_instance_uid, snapshot_id, plan, at))

    def claim(self, *, at: float, job_id: int | None = None) -> Job | None:
        """Take the next ready job, STAT first, then the oldest; its attempt is counted before the work starts.

        Where a routine job has waited for too long, routine and STAT take turns: neither waits for more than one of the
        other between two of its own. With `job_id` it is that one or none. Each claim has a number, and what is done
        under an older one is refused.
        """
        overdue = and_(jobs.c.priority_rank > _STAT, jobs.c.updated_at <= at - self._routine_waits_at_most_s)
        first = case((and_(overdue, _LAST_CLAIMED == _STAT), 0), else_=1)
        wanted = [jobs.c.state == JobState.READY, *([] if job_id is None else [jobs.c.id == job_id])]
        with self._engine.begin() as db:
            job_id = db.execute(
                select(jobs.c.id).where(*wanted).order_by(first, jobs.c.priority_rank, jobs.c.id).limit(1)
            ).scalar_one_or_none()
            if job_id is None:
                return None
            claim: dict[str, Any] = {"claimed_by": self._node, "claim": jobs.c.claim + 1}
            move_job(db, job_id, JobState.ANALYSING, at=at, detail="", attempts=jobs.c.attempts + 1, **claim)
            return read_job(db, job_id)

    def finish_analysis(
        self,
        job: Job,
        composed: Sequence[ResultFile],
        *,
        findings: Mapping[str, Any] | None,
        seconds: Mapping[str, float],
        at: float,
        refusal: tuple[str, str] | None = None,
    ) -> JobState:
        """Results are on the disk: fill the outbox and move on. Raises StaleClaim when the job was taken away.

        `refusal` (reason, detail) says that the result is a report of why the series was not analysed.
        """
        to_deliver = composed and job.send_to
        with self._engine.begin() as db:
            _expect_claim(db, job)
            for result in composed:
                _add_result(db, job, result, at)
            state = JobState.DELIVERING if to_deliver else JobState.DONE
            reason, detail = refusal or (None, f"{len(composed)} results")
            values: dict[str, Any] = {"findings": findings, "seconds": dict(seconds)}
            if refusal is None:
                values["outcome"] = None  # of an earlier attempt
            move_job(db, job.id, state, at=at, detail=detail, reason=reason, **values)
        return state

    def refuse(self, job: Job, *, reason: str, detail: str, at: float) -> None:
        """A gate refused the series."""
        with self._engine.begin() as db:
            _expect_claim(db, job)
            move_job(db, job.id, JobState.REFUSED, at=at, detail=detail, reason=reason)

    def fail_attempt(self, job: Job, *, reason: str, detail: str, at: float) -> JobState:
        """An attempt failed: try again, or park the job after the last attempt. The state it is in now."""
        with self._engine.begin() as db:
            _expect_claim(db, job)
            last = job.attempts >= MAX_ATTEMPTS
            state = JobState.FAILED if last else JobState.READY
            move_job(db, job.id, state, at=at, detail=f"attempt {job.attempts}: {detail}", reason=reason)
            return state

    def ready(self) -> list[Offer]:
        """Every job that may be claimed, STAT first, then the oldest."""
        columns = jobs.c.id, jobs.c.study_instance_uid, jobs.c.priority_rank
        query = select(*columns).where(jobs.c.state == JobState.READY).order_by(jobs.c.priority_rank, jobs.c.id)
        with reading(self._engine) as db:
            return [Offer(job_id=id_, lock=study, rank=rank) for id_, study, rank in db.execute(query)]

    def recover(self, *, at: float) -> int:
        """While this node analyses nothing: what it has claimed all the same becomes ready again; how many jobs.

        They are from before it was killed, or were left by an error. Such an attempt is not held against the job,
        unless it happens suspiciously often.
        """
        mine = [] if self._node is None else [jobs.c.claimed_by == self._node]
        return self._take_back(*mine, at=at)

    def take_over(self, *, at: float) -> int:
        """The same for the jobs of nodes that died, on PostgreSQL."""
        return self._take_back(func.coalesce(jobs.c.claimed_by, "").not_in(living_names()), at=at)

    def _take_back(self, *which: ColumnElement[bool], at: float) -> int:
        claimed = select(jobs.c.id, jobs.c.interruptions).where(jobs.c.state == JobState.ANALYSING, *which)
        with reading(self._engine) as db:
            if db.execute(claimed.limit(1)).first() is None:
                return 0
        with self._engine.begin() as db:
            rows = db.execute(claimed).all()
            for row in rows:
                why = "the node died during the attempt, or lost its database"
                _interrupt(db, row.id, row.interruptions, reason="node_died", detail=why, at=at)
            return len(rows)

    def interrupt(self, job: Job, *, reason: str, detail: str, at: float) -> JobState:
        """The attempt ended for a reason that is hardly the job's; its state now.

        It is not held against the job, unless it happens suspiciously often.
        """
        with self._engine.begin() as db:
            _expect_claim(db, job)
            before = db.execute(select(jobs.c.interruptions).where(jobs.c.id == job.id)).scalar_one()
            return _interrupt(db, job.id, before, reason=reason, detail=detail, at=at)

    def give_back(self, job: Job, *, detail: str, at: float) -> None:
        """The attempt ended for a reason that is not the job's, and does not count."""
        with self._engine.begin() as db:
            _expect_claim(db, job)
            move_job(db, job.id, JobState.READY, at=at, detail=detail, attempts=jobs.c.attempts - 1)

    def retry(self, job_id: int, *, at: float, who: str) -> JobState | None:
        """Revive a failed, refused or dropped job; its new state, or None when there is nothing to retry.

        There is nothing when what the job reads was purged, or a later job of its series took its place. Of a job whose
        results are withdrawn, the rejection note alone is sent again, and the state stays.
        """
        with self._engine.begin() as db:
            state = _state(db, job_id)
            if state is not None and _is_withdrawn(db, job_id):
                return state if _revive_note(db, job_id, state, at, who) else None
            if state is None or _is_purged(db, job_id) or read_successor(db, job_id) is not None:
                return None
            undelivered = deliveries.c.state.in_(["refused", "dead", "cancelled"])
            of_job = deliveries.c.job_id == job_id
            composed = db.execute(select(deliveries.c.id).where(of_job, undelivered | (deliveries.c.state == "sent")))
            if composed.first() and state in (JobState.FAILED, JobState.DROPPED):
                db.execute(update(deliveries).where(of_job, undelivered).values(_anew(at)))
                new = JobState.DELIVERING
            elif state in (JobState.FAILED, JobState.REFUSED, JobState.DROPPED):
                new = JobState.READY
            else:
                return None
            move_job(db, job_id, new, at=at, detail="retried by hand", outcome=None, attempts=0, interruptions=0)
            append_audit(db, AuditEvent.JOB_REVIVED, who=who, what={"job": job_id, "state": new.value}, at=at)
            return new

    def drop(self, job_id: int, *, at: float, who: str) -> bool:
        """End an unfinished job by hand; False when it is not there or finished."""
        with self._engine.begin() as db:
            if _state(db, job_id) not in UNFINISHED:
                return False
            _cancel_deliveries(db, job_id)
            move_job(db, job_id, JobState.DROPPED, at=at, detail="dropped by hand", who=who)
            return True

    def raise_to_stat(self, job_id: int, *, at: float, who: str) -> bool:
        """Put an unfinished job before all routine ones; False when it is not there, finished, or STAT already."""
        routine = jobs.c.id == job_id, jobs.c.state.in_(UNFINISHED), jobs.c.priority_rank > _STAT
        with self._engine.begin() as db:
            raised = db.execute(update(jobs).where(*routine).values(priority="stat", priority_rank=_STAT))
            if raised.rowcount != 1:
                return False
            append_audit(db, AuditEvent.JOB_RAISED, who=who, what={"job": job_id}, at=at)
            return True

    def run_again(self, job_id: int, plan: PlannedJob, *, at: float, who: str) -> int | None:
        """A new job of the same series and snapshot, planned by a person; its id. It supersedes the old one.

        None when there is nothing to run: what the job reads was purged, a later job of its series took its place, or
        the plan is what was done already.
        """
        with self._engine.begin() as db:
            query = select(jobs.c.study_instance_uid, jobs.c.snapshot_id).where(jobs.c.id == job_id)
            old = db.execute(query).first()
            if old is None or _is_purged(db, job_id) or read_successor(db, job_id) is not None:
                return None
            why = f"run again by hand under rule {plan.rule}"
            return _open_job(db, old.study_instance_uid, old.snapshot_id, plan, at, who=who, why=why)


def _open_job(
    db: Connection,
    study_instance_uid: str,
    snapshot_id: int,
    plan: PlannedJob,
    at: float,
    *,
    who: str = NODE,
    why: str = "instances arrived after its snapshot",
) -> int | None:
    """A job for the plan; None when the newest job of the series has the same input. `why`: the old one ends.

    What a person asked for stays until the node has something new to say: its own plans are compared with its own jobs.
    """
    query = (
        select(jobs.c.id, jobs.c.state, jobs.c.input_sha256)
        .where(jobs.c.study_instance_uid == study_instance_uid, jobs.c.series_instance_uid == plan.series_instance_uid)
        .order_by(jobs.c.id.desc())
        .limit(1)
    )
    newest = db.execute(query).first()
    known = [newest, db.execute(query.where(jobs.c.reason != Reason.BY_HAND)).first() if who == NODE else None]
    if any(job and job.input_sha256 == plan.input_sha256 for job in known):
        return None
    if newest and newest.state in UNFINISHED:
        _cancel_deliveries(db, newest.id)
        move_job(db, newest.id, JobState.SUPERSEDED, at=at, detail=why, who=who)
    job_id: int = db.execute(
        insert(jobs)
        .values(
            snapshot_id=snapshot_id,
            study_instance_uid=study_instance_uid,
            series_instance_uid=plan.series_instance_uid,
            state=plan.state,
            decision=plan.decision,
            reason=plan.reason,
            detail=plan.detail,
            rule=plan.rule,
            run=list(plan.run),
            send_to=list(plan.send_to),
            priority=plan.priority,
            priority_rank=_PRIORITY_RANK[plan.priority],
            report_ignored=plan.report_ignored,
            input_sha256=plan.input_sha256,
            supersedes=newest.id if newest else None,
            attempts=0,
            interruptions=0,
            created_at=at,
            updated_at=at,
        )
        .returning(jobs.c.id)
    ).scalar_one()
    point("job_opened", study_instance_uid)
    opened = {"job_id": job_id, "at": at, "to_state": plan.state, "detail": f"{plan.reason}: {plan.detail}"}
    db.execute(insert(events).values(opened))
    names = {"study": pseudonym(study_instance_uid), "series": pseudonym(plan.series_instance_uid)}
    what = {"job": job_id, **names, "decision": plan.decision, "reason": str(plan.reason), "rule": plan.rule}
    append_audit(db, AuditEvent.JOB_DECIDED, who=who, what=what, at=at)
    return job_id


def move_job(
    db: Connection,
    job_id: int,
    to: JobState,
    *,
    at: float,
    detail: str,
    reason: str | None = None,
    who: str = NODE,
    **also: Any,
) -> None:
    """One guarded transition with its event; StaleClaim when the table of transitions does not allow it.

    With `reason`, that and the detail are the job's outcome from now on; else only the event has the detail.
    """
    start = _state(db, job_id)
    if start is None or to not in TRANSITIONS[start]:
        raise StaleClaim(f"job {job_id} is {start}; it cannot become {to}")
    if reason is not None:
        also |= {"outcome": reason, "outcome_detail": detail}
    moved = db.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state == start).values(state=to, updated_at=at, **also)
    )
    if moved.rowcount != 1:
        raise StaleClaim(f"job {job_id} is no longer {start}")
    db.execute(insert(events).values(job_id=job_id, at=at, from_state=start, to_state=to, detail=detail))
    if to not in ON_THE_WAY:
        outcome = AuditOutcome.FAILURE if to is JobState.FAILED else AuditOutcome.SUCCESS
        what = {"job": job_id, "state": to.value, "reason": reason}
        append_audit(db, AuditEvent.JOB_ENDED, who=who, what=what, at=at, outcome=outcome)


def _interrupt(db: Connection, job_id: int, before: int, *, reason: str, detail: str, at: float) -> JobState:
    """Ready again instead of an attempt; parked after too many. `before`: interruptions until now."""
    count: dict[str, Any] = {"interruptions": before + 1, "attempts": jobs.c.attempts - 1}
    if before + 1 < MAX_INTERRUPTIONS:
        move_job(db, job_id, JobState.READY, at=at, detail=detail, **count)
        return JobState.READY
    why = f"interrupted {MAX_INTERRUPTIONS} times, at last: {detail}"
    move_job(db, job_id, JobState.FAILED, at=at, detail=why, reason=reason, **count)
    return JobState.FAILED


def stop_delivering(db: Connection, job: Job, *, at: float, detail: str, who: str) -> None:
    """Nothing more of the job is sent. One that is delivering would wait for ever, and is dropped."""
    _cancel_deliveries(db, job.id)
    if job.state is JobState.DELIVERING:
        move_job(db, job.id, JobState.DROPPED, at=at, detail=detail, who=who)


def _expect_claim(db: Connection, job: Job) -> None:
    """Whether the job is still with whoever claimed it as `job`."""
    row = db.execute(select(jobs.c.state, jobs.c.claim).where(jobs.c.id == job.id)).first()
    if row is None or row.state != JobState.ANALYSING:
        raise StaleClaim(f"job {job.id} is {row and row.state}, not {JobState.ANALYSING}")
    if row.claim != job.claim:
        raise StaleClaim(f"job {job.id} was claimed again since")


def _anew(at: float) -> dict[str, Any]:
    """The values of a delivery that begins again."""
    return {"state": "pending", "attempts": 0, "next_attempt_at": at, "transaction_uid": None}


def _revive_note(db: Connection, job_id: int, state: JobState, at: float, who: str) -> bool:
    undelivered = deliveries.c.job_id == job_id, deliveries.c.state.in_(["refused", "dead", "cancelled"])
    if db.execute(update(deliveries).where(*undelivered, _is_note(job_id)).values(_anew(at))).rowcount == 0:
        return False
    append_audit(db, AuditEvent.JOB_REVIVED, who=who, what={"job": job_id, "state": state.value}, at=at)
    return True


def _state(db: Connection, job_id: int) -> JobState | None:
    state = db.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
    return JobState(state) if state else None


def _is_purged(db: Connection, job_id: int) -> bool:
    study = db.execute(select(jobs.c.study_instance_uid).where(jobs.c.id == job_id)).scalar_one()
    return read_purge(db, study, job_id) is not None


def _add_result(db: Connection, job: Job, result: ResultFile, at: float) -> None:
    result_id = db.execute(
        insert(results)
        .values(
            job_id=job.id,
            role=result.role,
            sop_instance_uid=result.sop_instance_uid,
            sop_class_uid=result.sop_class_uid,
            series_instance_uid=result.series_instance_uid,
            file=result.file,
            size_bytes=result.size_bytes,
        )
        .returning(results.c.id)
    ).scalar_one()
    for destination in job.send_to:
        db.execute(
            insert(deliveries).values(
                job_id=job.id,
                result_id=result_id,
                destination=destination,
                state="pending",
                attempts=0,
                next_attempt_at=at,
            )
        )


def _cancel_deliveries(db: Connection, job_id: int) -> None:
    """What is not sent yet; what is sent stays so, and may still be committed. A rejection note is sent anyhow."""
    waiting = deliveries.c.job_id == job_id, deliveries.c.state.in_(["pending", "dead"])
    db.execute(update(deliveries).where(*waiting, ~_is_note(job_id)).values(state="cancelled"))


def _is_note(job_id: int) -> ColumnElement[bool]:
    """Whether a delivery of the job is that of a rejection note."""
    notes = select(results.c.id).where(results.c.job_id == job_id, results.c.role == NOTE_ROLE)
    return deliveries.c.result_id.in_(notes)


def _is_withdrawn(db: Connection, job_id: int) -> bool:
    return db.execute(select(withdrawals.c.job_id).where(withdrawals.c.job_id == job_id)).first() is not None
