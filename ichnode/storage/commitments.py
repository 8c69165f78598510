"""Commitments: which deliveries wait for a destination to say that it keeps them, and every request for that."""

from collections.abc import Sequence

from sqlalchemy import Engine, case, insert, or_, select, update

from ichnode.storage.dialect import reading
from ichnode.storage.outbox import Delivery, read_deliveries
from ichnode.storage.schema import commitments, deliveries, jobs


class Commitments:
    """The requests for storage commitment. A delivery that has been committed is settled in the outbox."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def to_ask(self, destination: str, *, at: float, longest_wait_s: float = float("inf")) -> list[Delivery]:
        """What of one job is to be asked for: it was sent, or the report on it did not come in time.

        A job of which more is being sent at this moment is not asked for yet: one request does for all. What waits
        longer than anything ever has to is due, too: the clock was set back.
        """
        due = or_(deliveries.c.next_attempt_at <= at, deliveries.c.next_attempt_at > at + longest_wait_s)
        waiting = deliveries.c.destination == destination, deliveries.c.state == "sent", due
        being_sent = select(deliveries.c.job_id).where(
            deliveries.c.destination == destination, deliveries.c.state == "pending", due
        )
        first = (
            select(deliveries.c.job_id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(*waiting, jobs.c.id.not_in(being_sent))
            .order_by(deliveries.c.next_attempt_at, deliveries.c.id)
            .limit(1)
            .scalar_subquery()
        )
        return read_deliveries(self._engine, *waiting, deliveries.c.job_id == first)

    def asking(self, sent: Sequence[Delivery], transaction_uid: str, *, at: float, until: float) -> None:
        """Commitment is about to be asked for, of one job at one destination; a report is expected before `until`.

        Noted before the request leaves, for the report may be faster than the answer. Asking again is an attempt.
        """
        again = case((deliveries.c.transaction_uid.is_not(None), 1), else_=0)
        chosen = deliveries.c.id.in_([delivery.id for delivery in sent]), deliveries.c.state == "sent"
        values = {"transaction_uid": transaction_uid, "next_attempt_at": until}
        request = {"transaction_uid": transaction_uid, "job_id": sent[0].job_id, "destination": sent[0].destination}
        with self._engine.begin() as db:
            db.execute(update(deliveries).where(*chosen).values(attempts=deliveries.c.attempts + again, **values))
            db.execute(insert(commitments).values(asked_at=at, **request))

    def waiting_for(self, transaction_uid: str) -> list[Delivery] | None:
        """What a report on `transaction_uid` can settle; None when this was never asked."""
        asked = select(commitments.c.job_id, commitments.c.destination)
        with reading(self._engine) as db:
            row = db.execute(asked.where(commitments.c.transaction_uid == transaction_uid)).first()
        if row is None:
            return None
        return read_deliveries(
            self._engine,
            deliveries.c.job_id == row.job_id,
            deliveries.c.destination == row.destination,
            deliveries.c.state == "sent",
        )

    def reported(self, transaction_uid: str, *, at: float) -> None:
        """The report on `transaction_uid` is noted."""
        with self._engine.begin() as db:
            chosen = update(commitments).where(commitments.c.transaction_uid == transaction_uid)
            db.execute(chosen.values(reported_at=at))
