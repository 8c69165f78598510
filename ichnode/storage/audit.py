"""Audit: the trail of what happened, appended in the transaction of what it tells, and verified row by row.

Triggers forbid to change or delete a row. Who owns the file can drop triggers, so each row carries a hash of itself and
of the row before, and `audit_head` says where the trail ends: one row altered, removed or moved is found. Who rewrites
everything from a row on is found only against the collector that got the rows as they were.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from ichnode.domain.audit import BEFORE_THE_FIRST, AuditEvent, AuditOutcome, AuditRow
from ichnode.domain.progress import Tell, silently
from ichnode.storage.dialect import reading, upsert
from ichnode.storage.schema import audit, audit_head, audit_positions

_TOLD_EVERY = 1000  # rows


def append_audit(
    db: Connection,
    event: AuditEvent,
    *,
    who: str,
    what: Mapping[str, Any],
    at: float,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
) -> None:
    """One more row, in the transaction of `db`, which holds the only right to write."""
    last = db.execute(select(audit_head.c.sequence, audit_head.c.sha256)).one()
    row = AuditRow(
        sequence=last.sequence + 1,
        at=float(at),  # as it will be read, for the hash
        event=event.value,
        who=who.replace("\0", "\\0"),  # which PostgreSQL cannot keep, and a hostile peer may call itself
        what=what,
        outcome=outcome.value,
        previous_sha256=last.sha256,
        sha256="",
    )
    row = replace(row, sha256=row.expected_sha256)
    values = {column.name: getattr(row, column.name) for column in audit.c}
    db.execute(insert(audit).values(values))
    db.execute(update(audit_head).values(sequence=row.sequence, sha256=row.sha256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """A place where the trail is not what was appended."""

    sequence: int
    detail: str


class AuditTrail:
    """The trail as it is read, and what has no other transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def append(
        self,
        event: AuditEvent,
        *,
        who: str,
        what: Mapping[str, Any],
        at: float,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
    ) -> None:
        """One more row, for what changes nothing else in the ledger."""
        with self._engine.begin() as db:
            append_audit(db, event, who=who, what=what, at=at, outcome=outcome)

    def rows(self, *, after: int = 0, limit: int | None = None) -> Iterator[AuditRow]:
        """The rows after sequence `after`, in their order."""
        query = select(audit).where(audit.c.sequence > after).order_by(audit.c.sequence).limit(limit)
        with reading(self._engine) as db:
            for row in db.execute(query):
                yield AuditRow(**row._mapping)

    def end(self) -> int:
        """The sequence of the last row that was appended."""
        with reading(self._engine) as db:
            return int(db.execute(select(audit_head.c.sequence)).scalar_one())

    def verify(self, tell: Tell = silently) -> list[Tampering]:
        """Where the trail was tampered with; empty when it is as it was appended."""
        with reading(self._engine) as db:
            head = db.execute(select(audit_head.c.sequence, audit_head.c.sha256)).one()
        found: list[Tampering] = []
        sequence, sha256 = 0, BEFORE_THE_FIRST
        for row in self.rows():
            if row.sequence > head.sequence:
                break  # appended since, or told below
            if row.sequence % _TOLD_EVERY == 0:
                tell("verifying the trail", row.sequence, head.sequence)
            whole = row.sequence == sequence + 1
            found += [] if whole else [_missing(sequence + 1, row.sequence - 1)]
            if row.sha256 != row.expected_sha256:
                found.append(Tampering(sequence=row.sequence, detail="was altered, or is not in its place"))
            elif whole and row.previous_sha256 != sha256:
                found.append(Tampering(sequence=row.sequence, detail="does not follow the row before it"))
            sequence, sha256 = row.sequence, row.sha256
        if sequence < head.sequence:
            found.append(_missing(sequence + 1, head.sequence))
        elif sha256 != head.sha256 and not found:
            found.append(Tampering(sequence=sequence, detail="is not the row that was appended last"))
        return found

    def position(self, collector: str) -> int:
        """The last row that `collector` got."""
        with reading(self._engine) as db:
            query = select(audit_positions.c.sequence).where(audit_positions.c.collector == collector)
            return db.execute(query).scalar_one_or_none() or 0

    def reached(self, collector: str, sequence: int) -> None:
        """`collector` got everything up to `sequence`."""
        values = upsert(audit_positions).values(collector=collector, sequence=sequence)
        with self._engine.begin() as db:
            db.execute(values.on_conflict_do_update(index_elements=["collector"], set_={"sequence": sequence}))


def _missing(first: int, last: int) -> Tampering:
    return Tampering(sequence=first, detail="is missing" if first == last else f"is missing, and so on to {last}")
