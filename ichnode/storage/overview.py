"""Overview: the ledger on one screen: what waits, who sent last, and where deliveries stand. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from ichnode.domain.audit import AuditEvent
from ichnode.domain.job import ON_THE_WAY, JobState
from ichnode.storage.dialect import reading
from ichnode.storage.schema import associations, audit, deliveries, instances, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A job on its way."""

    id: int
    state: JobState
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The last start of a node on this ledger."""

    at: float
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDestination:
    """How a destination fares."""

    delivered_at: float | None  # the last time that it took something
    error: str | None  # of the newest result that it has not taken
    error_job_id: int | None


class Overview:
    """Questions that `ichnode status` and the health page ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def oldest_waiting_job(self) -> WaitingJob | None:
        """The job that has been on its way for longest; None when none is."""
        query = select(jobs.c.id, jobs.c.state, jobs.c.created_at).where(jobs.c.state.in_(ON_THE_WAY))
        with reading(self._engine) as db:
            row = db.execute(query.order_by(jobs.c.id).limit(1)).first()
        return row and WaitingJob(id=row.id, state=JobState(row.state), created_at=row.created_at)

    def last_instances(self) -> dict[str, float]:
        """When the last instance of each calling AE title came in, of those whose instances are still here."""
        last = (
            select(func.max(instances.c.id).label("last"), associations.c.calling_ae_title)
            .join(associations, associations.c.id == instances.c.association_id)
            .group_by(associations.c.calling_ae_title)
            .subquery()
        )
        query = select(last.c.calling_ae_title, instances.c.received_at).join(last, instances.c.id == last.c.last)
        with reading(self._engine) as db:
            return {title: at for title, at in db.execute(query)}

    def deliveries(self) -> Mapping[str, Mapping[str, int]]:
        """How many deliveries each destination has in each state."""
        kinds = deliveries.c.destination, deliveries.c.state
        counted: dict[str, dict[str, int]] = {}
        with reading(self._engine) as db:
            for destination, state, count in db.execute(select(*kinds, func.count()).group_by(*kinds)):
                counted.setdefault(destination, {})[state] = count
        return counted

    def at_destinations(self) -> Mapping[str, AtDestination]:
        """What each destination took last, and what went wrong with the newest result that it has not taken."""
        wrong = (
            select(func.max(deliveries.c.id)).where(deliveries.c.error.is_not(None)).group_by(deliveries.c.destination)
        )
        problems = select(deliveries).where(deliveries.c.id.in_(wrong), deliveries.c.state.not_in(["replaced"]))
        last = func.max(deliveries.c.delivered_at)
        with reading(self._engine) as db:
            taken = db.execute(select(deliveries.c.destination, last).group_by(deliveries.c.destination)).all()
            troubled = {row.destination: row for row in db.execute(problems)}
        return {
            name: AtDestination(
                delivered_at=at,
                error=troubled[name].error if name in troubled else None,
                error_job_id=troubled[name].job_id if name in troubled else None,
            )
            for name, at in taken
        }

    def last_start(self) -> Started | None:
        """When a node last started on this ledger, and its version."""
        query = select(audit.c.at, audit.c.what).where(audit.c.event == AuditEvent.APPLICATION_STARTED)
        with reading(self._engine) as db:
            row = db.execute(query.order_by(audit.c.sequence.desc()).limit(1)).first()
        return row and Started(at=row.at, version=str(row.what.get("version", "")))
