"""Outbox: a row for each result and destination, until the destination took it or a person gave up.

A delivery begins `pending`. Where a destination commits (`commitments.py`), it is `sent` once C-STORE took it, and
`delivered` only when the destination has said that it keeps it; elsewhere it is `delivered` at once. What is of a SOP
class that the destination refuses is `replaced` by the summary page, provided that this is delivered there. `refused`,
`dead` and `cancelled` are the other ends. What changes a delivery also tests the state in which it was read.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, or_, select, update

from ichnode.domain.audit import AuditEvent, AuditOutcome, pseudonym
from ichnode.domain.job import JobState
from ichnode.domain.judgement import NOTE_ROLE
from ichnode.errors import StaleClaim
from ichnode.faults import point
from ichnode.storage.audit import append_audit
from ichnode.storage.dialect import reading
from ichnode.storage.ledger import NODE, move_job
from ichnode.storage.nodes import living_names
from ichnode.storage.schema import deliveries, jobs, results, withdrawals
from ichnode.storage.work_queue import Offer

OPEN = ("pending", "sent")
STAND_IN = "summary_page"  # the role of the result that says the same to any reader, as an RGB picture


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
    state: str  # pending, sent, delivered, replaced, refused, dead, cancelled
    attempts: int
    transaction_uid: str | None  # in which commitment was last asked for
    status: int | None  # of the last C-STORE response, or the reason why it was not committed
    error: str | None
    delivered_at: float | None
    next_attempt_at: float | None  # to send it, or to ask for commitment; None: never again
    claim: int = 0  # the number of the claim under which it is being sent


class Outbox:
    """The tables that delivering reads and writes.

    What settles a delivery returns the state that its job gets by it, or None while other deliveries are open. Where
    several nodes share the ledger, `node` claims what it sends; StaleClaim says that another one has claimed it since.
    """

    def __init__(
        self, engine: Engine, *, node: str | None = None, may_judge: Callable[[], bool] = lambda: True
    ) -> None:
        """`node` is who sends, where several share the ledger; `may_judge`, whether those that do not beat are dead."""
        self._engine = engine
        self._node = node
        self._may_judge = may_judge

    def due(
        self, destination: str, *, at: float, longest_wait_s: float = float("inf"), job_id: int | None = None
    ) -> list[Delivery]:
        """What of one job (of `job_id`) is due at `destination`: STAT first, then the oldest job.

        What waits longer than anything ever has to is due, too: the clock was set back.
        """
        waiting = [*self._due(destination, at, longest_wait_s)]
        if job_id is not None:
            waiting.append(deliveries.c.job_id == job_id)
        first = (
            select(deliveries.c.job_id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(*waiting)
            .order_by(jobs.c.priority_rank, deliveries.c.next_attempt_at, deliveries.c.id)
            .limit(1)
            .scalar_subquery()
        )
        chosen = *waiting, deliveries.c.job_id == first
        if self._node is None:
            return read_deliveries(self._engine, *chosen)
        with self._engine.begin() as db:
            mine = deliveries.c.id.in_([delivery.id for delivery in _read(db, *chosen)])
            db.execute(update(deliveries).where(mine).values(claimed_by=self._node, claim=deliveries.c.claim + 1))
            return _read(db, mine)

    def due_jobs(self, destination: str, *, at: float, longest_wait_s: float = float("inf")) -> list[Offer]:
        """The jobs of which something is due at `destination`, and which nobody is sending."""
        query = (
            select(jobs.c.id, jobs.c.study_instance_uid, jobs.c.priority_rank)
            .join(deliveries, deliveries.c.job_id == jobs.c.id)
            .where(*self._due(destination, at, longest_wait_s))
            .order_by(jobs.c.priority_rank, jobs.c.id)
            .distinct()
        )
        with reading(self._engine) as db:
            rows = db.execute(query)
            return [Offer(job_id=id_, lock=f"{study} {destination}", rank=rank) for id_, study, rank in rows]

    def expect_claim(self, delivery: Delivery) -> None:
        """Raises StaleClaim when it was cancelled, or another node claimed it since: this one was taken for dead."""
        with reading(self._engine) as db:
            _expect_claim(db, delivery)
            state = db.execute(select(deliveries.c.state).where(deliveries.c.id == delivery.id)).scalar_one()
            if state == "cancelled":
                raise StaleClaim(f"delivery {delivery.id} was cancelled since")

    def _due(self, destination: str, at: float, longest_wait_s: float) -> Iterator[ColumnElement[bool]]:
        yield deliveries.c.destination == destination
        yield deliveries.c.state == "pending"
        yield or_(deliveries.c.next_attempt_at <= at, deliveries.c.next_attempt_at > at + longest_wait_s)
        if self._node is not None:
            holder = func.coalesce(deliveries.c.claimed_by, self._node)
            mine = holder == self._node
            yield or_(mine, holder.not_in(living_names())) if self._may_judge() else mine

    def of_job(self, job_id: int) -> list[Delivery]:
        """Every delivery of a job."""
        return read_deliveries(self._engine, deliveries.c.job_id == job_id)

    def sent(self, delivery: Delivery, *, status: int | None, at: float) -> None:
        """C-STORE took it; whether the destination keeps it is to be asked now."""
        values = {"state": "sent", "status": status, "error": None, "next_attempt_at": at, "transaction_uid": None}
        with self._engine.begin() as db:
            if _update(db, delivery, "cancelled", **values):
                _is_taken(db, delivery)

    def delivered(self, delivery: Delivery, *, status: int | None, at: float) -> JobState | None:
        """The destination took it, or has committed itself to keep what it took."""
        return self._settle(delivery, state="delivered", status=status, error=None, delivered_at=at, at=at)

    def refused(self, delivery: Delivery, *, status: int | None, error: str, at: float) -> JobState | None:
        """The destination will never take it as it is."""
        return self._settle(delivery, state="refused", status=status, error=error, at=at)

    def stand_in(self, delivery: Delivery) -> Delivery | None:
        """The job's summary page at the same destination, taken or open, where it is of another SOP class.

        Nothing stands in for a rejection note.
        """
        if delivery.role == NOTE_ROLE:
            return None
        found = read_deliveries(
            self._engine,
            deliveries.c.job_id == delivery.job_id,
            deliveries.c.destination == delivery.destination,
            deliveries.c.state.in_([*OPEN, "delivered"]),
            results.c.role == STAND_IN,
            results.c.sop_class_uid != delivery.sop_class_uid,
        )
        return found[0] if found else None

    def replaced(
        self, delivery: Delivery, *, status: int | None, error: str, at: float, offered: bool
    ) -> JobState | None:
        """Its SOP class is refused, and the summary page stands in for it. `offered`: that was an attempt."""
        attempts = delivery.attempts + offered
        return self._settle(delivery, state="replaced", attempts=attempts, status=status, error=error, at=at)

    def dead(self, delivery: Delivery, *, status: int | None, error: str, at: float) -> JobState | None:
        """The last attempt failed; `jobs retry` revives it. It was not the last where `try_now` came meanwhile."""
        return self._settle(delivery, state="dead", status=status, error=error, at=at)

    def postponed(self, delivery: Delivery, *, status: int | None, error: str, until: float) -> None:
        """The attempt to send it, or to ask for commitment, failed; try again later.

        Or at once, where somebody wanted that meanwhile.
        """
        with self._engine.begin() as db:
            later = {} if _is_due_by_hand(db, delivery) else {"next_attempt_at": until}
            values = {"status": status, "error": error, "transaction_uid": None} | later
            _update(db, delivery, attempts=deliveries.c.attempts + 1, **values)

    def send_again(self, delivery: Delivery, *, status: int, error: str, until: float) -> None:
        """The destination does not keep what it took.

        What a superseded or dropped job sent is not sent again, unless it is a rejection note.
        """
        with self._engine.begin() as db:
            job_state = db.execute(select(jobs.c.state).where(jobs.c.id == delivery.job_id)).scalar_one()
            is_wanted = job_state == JobState.DELIVERING or delivery.role == NOTE_ROLE
            state = "pending" if is_wanted else "cancelled"
            values = {"status": status, "error": error, "next_attempt_at": until, "transaction_uid": None}
            _update(db, delivery, state=state, **values)

    def open_destinations(self) -> Mapping[str, int]:
        """How many deliveries each destination still waits for."""
        query = select(deliveries.c.destination, func.count()).where(deliveries.c.state.in_(OPEN))
        with reading(self._engine) as db:
            return {name: count for name, count in db.execute(query.group_by(deliveries.c.destination))}

    def try_now(self, destination: str, *, at: float, who: str) -> int:
        """Everything that waits for `destination` is due at once, and its back-off begins anew; how many results."""
        waiting = deliveries.c.destination == destination, deliveries.c.state.in_(OPEN)
        with self._engine.begin() as db:
            due = db.execute(update(deliveries).where(*waiting).values(attempts=0, next_attempt_at=at)).rowcount
            if due:
                what = {"destination": destination, "results": due}
                append_audit(db, AuditEvent.DESTINATION_RETRIED, who=who, what=what, at=at)
            return due

    def give_up_on_unknown(self, known: Collection[str], *, at: float) -> None:
        """Deliveries to destinations that the configuration no longer has become dead letters."""
        for name in set(self.open_destinations()) - set(known):
            for delivery in self._open(name, OPEN):
                self.dead(delivery, status=None, error=f"destination {name} is no longer configured", at=at)

    def ask_no_more(self, destination: str, *, at: float) -> None:
        """At start: commitment is not asked for at `destination` (any more), so what is sent is delivered."""
        for delivery in self._open(destination, ("sent",)):
            self.delivered(delivery, status=delivery.status, at=at)

    def _open(self, destination: str, states: Collection[str]) -> list[Delivery]:
        return read_deliveries(self._engine, deliveries.c.destination == destination, deliveries.c.state.in_(states))

    def _settle(self, delivery: Delivery, *, at: float, **values: Any) -> JobState | None:
        """Set the last word on one delivery, and on its job when it was the last one open.

        Nothing changes where somebody else had that word; but what was cancelled on its way and taken all the same is
        delivered.
        """
        also = ("cancelled",) if values["state"] == "delivered" else ()
        with self._engine.begin() as db:
            if values["state"] == "dead" and _is_due_by_hand(db, delivery):
                _update(db, delivery, status=values["status"], error=values["error"], transaction_uid=None)
                return None
            if not _update(db, delivery, *also, **values):
                return None
            if values["state"] == "delivered":
                _is_taken(db, delivery)
            _audit_destination(db, delivery, at)
            of_job = deliveries.c.job_id == delivery.job_id
            still_open = db.execute(select(deliveries.c.id).where(of_job, deliveries.c.state.in_(OPEN)).limit(1))
            job_state = db.execute(select(jobs.c.state).where(jobs.c.id == delivery.job_id)).scalar_one()
            if still_open.first() or job_state != JobState.DELIVERING:
                return None
            point("job_ending")
            _refuse_without_stand_in(db, delivery.job_id)
            counted = select(deliveries.c.state, func.count()).where(of_job).group_by(deliveries.c.state)
            states = {state: count for state, count in db.execute(counted)}
            others = ", ".join(f"{count} {state}" for state, count in states.items() if state != "delivered")
            if states.keys() <= {"delivered", "replaced"}:
                detail = f"every destination took every result, but {others}" if others else _ALL_TAKEN
                move_job(db, delivery.job_id, JobState.DONE, at=at, detail=detail)
                return JobState.DONE
            move_job(db, delivery.job_id, JobState.FAILED, at=at, detail=others, reason="delivery")
            return JobState.FAILED


_ALL_TAKEN = "every destination took every result"
_DELIVERY_QUERY = select(
    deliveries, results.c.role, results.c.sop_class_uid, results.c.sop_instance_uid, results.c.file
).join(results, results.c.id == deliveries.c.result_id)


def _is_taken(db: Connection, delivery: Delivery) -> None:
    """What a destination took although the job's results are withdrawn is to be named by a rejection note, too."""
    if delivery.role != NOTE_ROLE:
        db.execute(update(withdrawals).where(withdrawals.c.job_id == delivery.job_id).values(to_do=True))


def _audit_destination(db: Connection, delivery: Delivery, at: float) -> None:
    """Once nothing of the job is open at the destination, the trail tells what it took; of rejection notes apart."""
    is_note = results.c.role == NOTE_ROLE
    query = (
        select(jobs.c.study_instance_uid, results.c.sop_class_uid, deliveries.c.state, func.count())
        .join(results, results.c.id == deliveries.c.result_id)
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(deliveries.c.job_id == delivery.job_id, deliveries.c.destination == delivery.destination)
        .where(is_note if delivery.role == NOTE_ROLE else ~is_note)
        .group_by(jobs.c.study_instance_uid, results.c.sop_class_uid, deliveries.c.state)
    )
    rows = db.execute(query).all()
    if any(row.state in OPEN for row in rows):
        return
    taken = {sop_class: count for _, sop_class, state, count in rows if state == "delivered"}
    well = {row.state for row in rows} <= {"delivered", "replaced"}
    outcome = AuditOutcome.SUCCESS if well else AuditOutcome.FAILURE
    what = {"job": delivery.job_id, "destination": delivery.destination, "studies": {pseudonym(rows[0][0]): taken}}
    append_audit(db, AuditEvent.RESULTS_DELIVERED, who=NODE, what=what, at=at, outcome=outcome)


def _update(db: Connection, delivery: Delivery, *also: str, **values: Any) -> bool:
    """Only a delivery that is still in the state in which it was read, or in one of `also`, changes; whether it did.

    What ends `pending` was an attempt. Raises StaleClaim when it was claimed again since.
    """
    if delivery.state == "pending":
        values = {"attempts": deliveries.c.attempts + 1} | values
    mine = deliveries.c.id == delivery.id, deliveries.c.claim == delivery.claim
    unchanged = *mine, deliveries.c.state.in_([delivery.state, *also])
    if db.execute(update(deliveries).where(*unchanged).values(claimed_by=None, **values)).rowcount == 1:
        return True
    _expect_claim(db, delivery)
    return False


def _is_due_by_hand(db: Connection, delivery: Delivery) -> bool:
    """Whether `try_now` began its attempts anew since it was read."""
    now = db.execute(select(deliveries.c.attempts).where(deliveries.c.id == delivery.id)).scalar_one()
    return bool(now < delivery.attempts)


def _expect_claim(db: Connection, delivery: Delivery) -> None:
    if db.execute(select(deliveries.c.claim).where(deliveries.c.id == delivery.id)).scalar_one() != delivery.claim:
        raise StaleClaim(f"delivery {delivery.id} was claimed again since")


def _refuse_without_stand_in(db: Connection, job_id: int) -> None:
    """Where the summary page was not delivered after all, nothing replaces what was refused."""
    of_job = deliveries.c.job_id == job_id
    stands_in = (
        select(deliveries.c.destination)
        .join(results, results.c.id == deliveries.c.result_id)
        .where(of_job, deliveries.c.state == "delivered", results.c.role == STAND_IN)
    )
    unread = of_job, deliveries.c.state == "replaced", deliveries.c.destination.not_in(stands_in)
    db.execute(update(deliveries).where(*unread).values(state="refused"))


def read_deliveries(engine: Engine, *where: ColumnElement[bool]) -> list[Delivery]:
    """Those for which all of `where` holds, in the order in which their results were composed."""
    with reading(engine) as db:
        return _read(db, *where)


def _read(db: Connection, *where: ColumnElement[bool]) -> list[Delivery]:
    rows = db.execute(_DELIVERY_QUERY.where(*where).order_by(deliveries.c.id))
    return [_as_delivery(row._mapping) for row in rows]


def _as_delivery(row: Mapping[Any, Any]) -> Delivery:
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
        transaction_uid=row["transaction_uid"],
        status=row["status"],
        error=row["error"],
        delivered_at=row["delivered_at"],
        next_attempt_at=row["next_attempt_at"] if row["state"] in OPEN else None,
        claim=row["claim"],
    )
