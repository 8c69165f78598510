"""Overview: the ledger on one screen: what waits, who sent last, and where deliveries stand. Reads only."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import CTE, ColumnElement, Engine, Function, ScalarSelect, TextClause, func, select

from ichnode.domain.audit import AuditEvent
from ichnode.domain.job import ON_THE_WAY, JobState
from ichnode.storage.dialect import reading
from ichnode.storage.intake import stored_bytes
from ichnode.storage.outbox import OPEN
from ichnode.storage.schema import WENT_WRONG, associations, audit, deliveries, instances, jobs

_SUM_HOLDS_S = 60.0


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
    next_attempt_at: float | None  # the earliest for what waits: to send it, or to ask for commitment


NEVER_SENT_TO = AtDestination(delivered_at=None, error=None, error_job_id=None, next_attempt_at=None)


class Overview:
    """Questions that `ichnode status` and the health page ask."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._summing = Lock()
        self._summed: tuple[float, int] | None = None  # when, and the size

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
        """What each took last, what went wrong with the newest result that it has not taken, and when it is tried."""
        name = _destinations().c.name

        def of_it(value: Function[Any], *where: ColumnElement[bool] | TextClause) -> ScalarSelect[Any]:
            query = select(value).where(deliveries.c.destination == name, *where)
            return query.correlate(name.table).scalar_subquery()

        took, wrong = of_it(func.max(deliveries.c.delivered_at)), of_it(func.max(deliveries.c.id), WENT_WRONG)
        due = {state: of_it(func.min(deliveries.c.next_attempt_at), deliveries.c.state == state) for state in OPEN}
        columns = name, took.label("took"), wrong.label("wrong"), *(query.label(state) for state, query in due.items())
        with reading(self._engine) as db:
            known = db.execute(select(*columns).where(name.is_not(None))).all()
            problems = select(deliveries).where(deliveries.c.id.in_([row.wrong for row in known if row.wrong]))
            troubled = {row.destination: row for row in db.execute(problems)}
        return {
            row.name: AtDestination(
                delivered_at=row.took,
                error=troubled[row.name].error if row.name in troubled else None,
                error_job_id=troubled[row.name].job_id if row.name in troubled else None,
                next_attempt_at=min((at for at in map(row._mapping.get, OPEN) if at is not None), default=None),
            )
            for row in known
        }

    def stored_bytes(self) -> int:
        """Size of all instance files together, as of a minute ago at most: it is a sum over every instance."""
        with self._summing:
            now = self._clock()
            if self._summed is None or now - self._summed[0] >= _SUM_HOLDS_S:
                self._summed = now, stored_bytes(self._engine)
            return self._summed[1]

    def last_start(self) -> Started | None:
        """When a node last started on this ledger, and its version."""
        query = select(audit.c.at, audit.c.what).where(audit.c.event == AuditEvent.APPLICATION_STARTED)
        with reading(self._engine) as db:
            row = db.execute(query.order_by(audit.c.sequence.desc()).limit(1)).first()
        return row and Started(at=row.at, version=str(row.what.get("version", "")))


def _destinations() -> CTE:
    """The name of each destination that has a delivery, then NULL: by a look into an index for each."""
    names = select(func.min(deliveries.c.destination).label("name")).cte("names", recursive=True)
    after = select(func.min(deliveries.c.destination)).where(deliveries.c.destination > names.c.name)
    return names.union_all(select(after.correlate(names).scalar_subquery()).where(names.c.name.is_not(None)))
