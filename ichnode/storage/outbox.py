"""Outbox: a row for each result and destination, until the destination took it or a person gave up."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, or_, select, update

from ichnode.domain.audit import AuditEvent, AuditOutcome, pseudonym
from ichnode.domain.job import JobState
from ichnode.storage.audit import append_audit
from ichnode.storage.ledger import NODE, move_job
from ichnode.storage.schema import deliveries, jobs, reading, results


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One result on its way to one destination."""

    id: int
    job_id: int
    destination: str
    role: str
    sop_class_uid: str
    sop_instance_uid: str
    file: str
    state: str  # pending, delivered, refused, dead, cancelled
    attempts: int
    status: int | None  # of the last C-STORE response
    error: str | None
    delivered_at: float | None


class Outbox:
    """The tables that delivering reads and writes.

    What settles a delivery returns the state that its job gets by it, or None while other deliveries are open.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def due(self, destination: str, *, at: float, longest_wait_s: float = float("inf")) -> list[Delivery]:
        """What of one job is due at `destination`: STAT first, then the oldest job.

        What waits longer than anything ever has to is due, too: the clock was set back.
        """
        due = or_(deliveries.c.next_attempt_at <= at, deliveries.c.next_attempt_at > at + longest_wait_s)
        waiting = deliveries.c.destination == destination, deliveries.c.state == "pending", due
        first = (
            select(deliveries.c.job_id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(*waiting)
            .order_by(jobs.c.priority_rank, deliveries.c.next_attempt_at, deliveries.c.id)
            .limit(1)
            .scalar_subquery()
        )
        query = _DELIVERY_QUERY.where(*waiting, deliveries.c.job_id == first).order_by(deliveries.c.id)
        with reading(self._engine) as db:
            return [_delivery(row._mapping) for row in db.execute(query)]

    def of_job(self, job_id: int) -> list[Delivery]:
        """Every delivery of a job."""
        with reading(self._engine) as db:
            query = _DELIVERY_QUERY.where(deliveries.c.job_id == job_id).order_by(deliveries.c.id)
            return [_delivery(row._mapping) for row in db.execute(query)]

    def delivered(self, delivery: Delivery, *, status: int | None, at: float) -> JobState | None:
        """The destination took it."""
        return self._settle(delivery, state="delivered", status=status, error=None, delivered_at=at, at=at)

    def refused(self, delivery: Delivery, *, status: int | None, error: str, at: float) -> JobState | None:
        """The destination will never take it as it is."""
        return self._settle(delivery, state="refused", status=status, error=error, at=at)

    def dead(self, delivery: Delivery, *, status: int | None, error: str, at: float) -> JobState | None:
        """The last attempt failed; `jobs retry` revives it."""
        return self._settle(delivery, state="dead", status=status, error=error, at=at)

    def postponed(self, delivery: Delivery, *, status: int | None, error: str, until: float) -> None:
        """The attempt failed; try again later."""
        with self._engine.begin() as db:
            _update(db, delivery, status=status, error=error, next_attempt_at=until)

    def pending_destinations(self) -> Mapping[str, int]:
        """How many deliveries each destination still waits for."""
        query = select(deliveries.c.destination, func.count()).where(deliveries.c.state == "pending")
        with reading(self._engine) as db:
            return {name: count for name, count in db.execute(query.group_by(deliveries.c.destination))}

    def give_up_on_unknown(self, known: Collection[str], *, at: float) -> None:
        """At start: deliveries to destinations that the configuration no longer has become dead letters."""
        for name in self.pending_destinations():
            while name not in known and (batch := self.due(name, at=float("inf"))):
                for delivery in batch:
                    self.dead(delivery, status=None, error=f"destination {name} is no longer configured", at=at)

    def _settle(self, delivery: Delivery, *, at: float, **values: Any) -> JobState | None:
        """Set the last word on one delivery, and on its job when it was the last one open."""
        with self._engine.begin() as db:
            _update(db, delivery, **values)
            _audit_destination(db, delivery, at)
            counted = select(deliveries.c.state, func.count()).where(deliveries.c.job_id == delivery.job_id)
            states = {state: count for state, count in db.execute(counted.group_by(deliveries.c.state))}
            job_state = db.execute(select(jobs.c.state).where(jobs.c.id == delivery.job_id)).scalar_one()
            if "pending" in states or job_state != JobState.DELIVERING:
                return None
            if set(states) == {"delivered"}:
                move_job(db, delivery.job_id, JobState.DONE, at=at, detail="every destination took every result")
                return JobState.DONE
            undelivered = ", ".join(f"{count} {state}" for state, count in states.items() if state != "delivered")
            move_job(db, delivery.job_id, JobState.FAILED, at=at, detail=undelivered, reason="delivery")
            return JobState.FAILED


_DELIVERY_QUERY = select(
    deliveries, results.c.role, results.c.sop_class_uid, results.c.sop_instance_uid, results.c.file
).join(results, results.c.id == deliveries.c.result_id)


def _audit_destination(db: Connection, delivery: Delivery, at: float) -> None:
    """Once nothing of the job is open at the destination, the trail tells what it took."""
    query = (
        select(jobs.c.study_instance_uid, results.c.sop_class_uid, deliveries.c.state, func.count())
        .join(results, results.c.id == deliveries.c.result_id)
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
        .group_by(jobs.c.study_instance_uid, results.c.sop_class_uid, deliveries.c.state)
    )
    rows = db.execute(query).all()
    if any(state == "pending" for _, _, state, _ in rows):
        return
    taken = {sop_class: count for _, sop_class, state, count in rows if state == "delivered"}
    outcome = AuditOutcome.SUCCESS if all(row.state == "delivered" for row in rows) else AuditOutcome.FAILURE
    what = {"job": delivery.job_id, "destination": delivery.destination, "studies": {pseudonym(rows[0][0]): taken}}
    append_audit(db, AuditEvent.RESULTS_DELIVERED, who=NODE, what=what, at=at, outcome=outcome)


def _update(db: Connection, delivery: Delivery, **values: Any) -> None:
    """Only a delivery that is still pending changes."""
    db.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery.id, deliveries.c.state == "pending")
        .values(attempts=deliveries.c.attempts + 1, **values)
    )


def _delivery(row: Mapping[Any, Any]) -> Delivery:
    return Delivery(
        id=row["id"],
        job_id=row["job_id"],
        destination=row["destination"],
        role=row["role"],
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        file=row["file"],
        state=row["state"],
        attempts=row["attempts"],
        status=row["status"],
        error=row["error"],
        delivered_at=row["delivered_at"],
    )
