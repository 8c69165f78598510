"""Withdrawals: which results that a destination took no rejection note names yet, and the notes that name them.

A destination gets a note that names what it took, and nothing else: an archive that follows IOCM refuses a note about
instances that it does not have (dcm4chee: 0xA772). Destinations that took the same share a note.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from ichnode.domain.job import Job
from ichnode.domain.judgement import NOTE_ROLE, RejectReason
from ichnode.storage.dialect import reading
from ichnode.storage.history import ResultFile, read_job
from ichnode.storage.schema import deliveries, judgements, results, withdrawals


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Results of a job that some destinations took, and that no note names."""

    results: tuple[ResultFile, ...]
    destinations: tuple[str, ...]
    delivery_ids: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What is left to withdraw of one job."""

    job: Job
    at: float  # when it was rejected
    reason: RejectReason
    taken: tuple[Taken, ...]


class Withdrawals:
    """The tables that withdrawing reads and writes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def next(self, *, without: Collection[int] = ()) -> Withdrawal | None:
        """One that is to do, the oldest first; none of the jobs `without`."""
        query = (
            select(withdrawals.c.job_id, judgements.c.at, judgements.c.reason)
            .join(judgements, judgements.c.id == withdrawals.c.judgement_id)
            .where(withdrawals.c.to_do, withdrawals.c.job_id.not_in(without))
            .order_by(withdrawals.c.judgement_id)
            .limit(1)
        )
        with reading(self._engine) as db:
            row = db.execute(query).first()
            job = read_job(db, row.job_id) if row else None
            if row is None or job is None:
                return None
            return Withdrawal(job=job, at=row.at, reason=RejectReason(row.reason), taken=_taken(db, job.id))

    def add_notes(self, withdrawal: Withdrawal, notes: Sequence[ResultFile], *, at: float) -> bool:
        """The notes, one for each of `withdrawal.taken`, into the outbox; that withdrawal is done then.

        False where something else was taken meanwhile, or another node did it: then nothing is added.
        """
        with self._engine.begin() as db:
            if _taken(db, withdrawal.job.id) != withdrawal.taken:
                return False
            for taken, note in zip(withdrawal.taken, notes, strict=True):
                _add_note(db, withdrawal.job.id, taken, note, at)
            this = withdrawals.c.job_id == withdrawal.job.id
            db.execute(update(withdrawals).where(this).values(to_do=False))
            return True


def _taken(db: Connection, job_id: int) -> tuple[Taken, ...]:
    """By what was taken, in the order in which the results were composed."""
    query = (
        select(results, deliveries.c.id.label("delivery_id"), deliveries.c.destination)
        .join(deliveries, deliveries.c.result_id == results.c.id)
        .where(
            results.c.job_id == job_id,
            results.c.role != NOTE_ROLE,
            deliveries.c.state.in_(["sent", "delivered"]),
            deliveries.c.withdrawn_by.is_(None),
        )
        .order_by(results.c.id, deliveries.c.destination)
    )
    rows = [row._mapping for row in db.execute(query)]
    at_destination: dict[str, tuple[int, ...]] = {}
    for row in rows:
        at_destination[row["destination"]] = (*at_destination.get(row["destination"], ()), row["id"])
    return tuple(
        _as_taken(rows, result_ids, [name for name, ids in at_destination.items() if ids == result_ids])
        for result_ids in dict.fromkeys(at_destination.values())
    )


def _as_taken(rows: Sequence[Mapping[Any, Any]], result_ids: tuple[int, ...], destinations: Sequence[str]) -> Taken:
    mine = [row for row in rows if row["destination"] in destinations]
    fields = ("role", "sop_instance_uid", "sop_class_uid", "series_instance_uid", "file", "size_bytes")
    files = {row["id"]: ResultFile(**{field: row[field] for field in fields}) for row in mine}
    return Taken(
        results=tuple(files[result_id] for result_id in result_ids),
        destinations=tuple(destinations),
        delivery_ids=frozenset(row["delivery_id"] for row in mine),
    )


def _add_note(db: Connection, job_id: int, taken: Taken, note: ResultFile, at: float) -> None:
    row = {
        "job_id": job_id,
        "role": note.role,
        "sop_instance_uid": note.sop_instance_uid,
        "sop_class_uid": note.sop_class_uid,
        "series_instance_uid": note.series_instance_uid,
        "file": note.file,
        "size_bytes": note.size_bytes,
    }
    result_id = db.execute(insert(results).values(row).returning(results.c.id)).scalar_one()
    fresh = {"job_id": job_id, "result_id": result_id, "state": "pending", "attempts": 0, "next_attempt_at": at}
    for destination in taken.destinations:
        db.execute(insert(deliveries).values(fresh | {"destination": destination}))
    named = deliveries.c.id.in_(taken.delivery_ids)
    db.execute(update(deliveries).where(named).values(withdrawn_by=result_id))
