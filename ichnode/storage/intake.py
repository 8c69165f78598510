"""Intake: what was received, from whom, and which studies wait for a snapshot."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, bindparam, case, func, insert, select, update
from sqlalchemy.exc import TimeoutError as LedgerTimeoutError

from ichnode.domain.audit import AuditEvent, AuditOutcome, pseudonym
from ichnode.domain.study import Arrival, Instance, Series, StudySnapshot
from ichnode.errors import Undecided
from ichnode.storage.audit import append_audit
from ichnode.storage.dialect import begin_within, hold_study, reading, upsert
from ichnode.storage.nodes import living_names
from ichnode.storage.schema import FILE_BYTES, associations, conflicts, instances, purged_instances, studies

LOCK_TIMEOUT_S = 10.0


class Kept(Enum):
    """What became of a received instance."""

    NEW = auto()
    DUPLICATE = auto()  # the same bytes were here already
    MENDED = auto()  # they were, and their file was lost or damaged: the new one takes its place
    CONFLICT = auto()  # other bytes are here under the same SOP Instance UID; the first are kept and used
    KNOWN_CONFLICT = auto()  # the same, and these bytes were put aside before


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingStudy:
    """A study with instances that no snapshot has yet."""

    study_instance_uid: str
    last_instance_id: int
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class _Arrived:
    row: dict[str, Any]
    kept: Future[Kept]
    until: float  # of the monotonic clock: then its sender is answered


class Intake:
    """The tables that receiving writes and assembling reads. `node` is who receives, where several share the ledger."""

    def __init__(self, engine: Engine, *, node: str | None = None) -> None:
        self._engine = engine
        self._node = node
        self._arrived: deque[_Arrived] = deque()  # rows that wait for a transaction
        self._committing = Lock()  # one writer at a time: SQLite would let the others sleep between tries

    def open_association(self, *, calling_ae_title: str, peer: str, at: float) -> int:
        """A row for a new association; its id."""
        row = {"calling_ae_title": calling_ae_title, "peer": peer, "opened_at": at, "node": self._node}
        with self._writing() as db:
            new = int(db.execute(insert(associations).values(row).returning(associations.c.id)).scalar_one())
            what = {"association": new, "peer": peer}
            append_audit(db, AuditEvent.ASSOCIATION_OPENED, who=calling_ae_title, what=what, at=at)
            return new

    def close_association(self, association_id: int, *, ending: str, at: float) -> None:
        """How an association ended: "released" or "aborted"; what came over it goes into the audit trail."""
        with self._writing() as db:
            _close(db, association_id, ending, at)

    def close_lost_associations(self, *, at: float) -> None:
        """At start: associations that this node left open when it was killed."""
        self._close_lost(*([] if self._node is None else [associations.c.node == self._node]), at=at)

    def close_associations_of_dead_nodes(self, *, at: float) -> None:
        """The same for the associations of nodes that died, on PostgreSQL."""
        self._close_lost(func.coalesce(associations.c.node, "").not_in(living_names()), at=at)

    def _close_lost(self, *which: ColumnElement[bool], at: float) -> None:
        query = select(associations.c.id).where(associations.c.ending.is_(None), *which)
        with reading(self._engine) as db:
            lost = db.execute(query).scalars().all()
        if lost:
            with self._engine.begin() as db:
                for association_id in lost:
                    _close(db, association_id, "lost", at)

    def keep(self, instance: Instance, *, sha256: str, size_bytes: int) -> Kept:
        """Commit the row of a stored instance; the same bytes again change nothing. Atomic, also between processes.

        Instances that arrive while another one is committed share the next transaction, and so one fsync.
        """
        row = {
            "sop_instance_uid": instance.sop_instance_uid,
            "sop_class_uid": instance.sop_class_uid,
            "series_instance_uid": instance.series_instance_uid,
            "study_instance_uid": instance.study_instance_uid,
            "transfer_syntax_uid": instance.transfer_syntax_uid,
            "sha256": sha256,
            "file": instance.file,
            "size_bytes": size_bytes,
            "header": dict(instance.header),
            "association_id": instance.association_id,
            "received_at": instance.received_at,
        }
        kept: Future[Kept] = Future()
        self._arrived.append(_Arrived(row, kept, time.monotonic() + LOCK_TIMEOUT_S))
        try:
            with self._turn_to_write():
                if not kept.done():
                    self._commit_arrived()
        except LedgerTimeoutError:
            if kept.cancel():
                raise
        try:
            return kept.result(timeout=LOCK_TIMEOUT_S)
        except TimeoutError as problem:
            raise Undecided("the ledger is slow") from problem

    def _commit_arrived(self) -> None:
        """One transaction for every row that waits; each learns what became of it, or why the transaction failed.

        It waits for other processes no longer than the row that may wait least.
        """
        waiting = [self._arrived.popleft() for _ in range(len(self._arrived))]
        batch = [one for one in waiting if one.kept.set_running_or_notify_cancel()]
        try:
            wait_s = min((one.until for one in batch), default=0.0) - time.monotonic()
            with begin_within(self._engine, wait_s, beside=True) as db:
                for study in sorted({one.row["study_instance_uid"] for one in batch}):
                    hold_study(db, study)
                outcomes = [_keep(db, one.row) for one in batch]
        except Exception as problem:  # whatever it is, nobody may wait for an answer that does not come
            for one in batch:
                one.kept.set_exception(problem)
        else:
            for one, outcome in zip(batch, outcomes, strict=True):
                one.kept.set_result(outcome)

    @contextmanager
    def _turn_to_write(self) -> Iterator[float]:
        """One writer at a time; yields until when it may wait for other processes.

        Raises LedgerTimeoutError after LOCK_TIMEOUT_S, so that no sender waits longer.
        """
        until = time.monotonic() + LOCK_TIMEOUT_S
        if not self._committing.acquire(timeout=LOCK_TIMEOUT_S):
            raise LedgerTimeoutError("the ledger is busy")
        try:
            yield until
        finally:
            self._committing.release()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._turn_to_write() as until, begin_within(self._engine, until - time.monotonic()) as db:
            yield db

    def waiting_studies(self) -> list[WaitingStudy]:
        """Studies with instances that no snapshot has, the longest waiting first."""
        unreleased = (
            select(associations.c.id)
            .join(instances, instances.c.association_id == associations.c.id)
            .where(
                instances.c.study_instance_uid == studies.c.study_instance_uid,
                func.coalesce(associations.c.ending, "open") != "released",
            )
            .exists()
        )
        query = select(studies, unreleased.label("unreleased")).where(studies.c.waiting)
        with reading(self._engine) as db:
            return [
                WaitingStudy(
                    study_instance_uid=row.study_instance_uid,
                    last_instance_id=row.last_instance_id,
                    arrival=Arrival(
                        first_received_at=row.first_received_at,
                        last_received_at=row.last_received_at,
                        unreleased=row.unreleased,
                    ),
                )
                for row in db.execute(query.order_by(studies.c.first_received_at))
            ]

    def snapshot(self, study_instance_uid: str, *, last_instance_id: int) -> StudySnapshot:
        """The study as of `last_instance_id`, series in order of UID, instances in order of receipt."""
        query = (
            select(instances)
            .where(instances.c.study_instance_uid == study_instance_uid, instances.c.id <= last_instance_id)
            .order_by(instances.c.series_instance_uid, instances.c.id)
        )
        here = select(instances.c.sop_instance_uid).where(
            instances.c.study_instance_uid == study_instance_uid, instances.c.id <= last_instance_id
        )
        gone = (
            select(purged_instances.c.series_instance_uid, func.count())
            .where(
                purged_instances.c.study_instance_uid == study_instance_uid,
                purged_instances.c.sop_instance_uid.not_in(here),
            )
            .group_by(purged_instances.c.series_instance_uid)
        )
        with reading(self._engine) as db:
            rows = [row._mapping for row in db.execute(query)]
            purged = {uid: count for uid, count in db.execute(gone)}
        return StudySnapshot(
            study_instance_uid=study_instance_uid,
            series=tuple(
                Series(
                    series_instance_uid=uid,
                    study_instance_uid=study_instance_uid,
                    instances=tuple(_instance(row) for row in group),
                    purged=purged.get(uid, 0),
                )
                for uid, group in groupby(rows, key=lambda row: str(row["series_instance_uid"]))
            ),
        )

    def conflicts(self, study_instance_uid: str) -> list[str]:
        """The SOP Instance UIDs of the study under which other bytes came in later and were put aside, in order."""
        query = (
            select(conflicts.c.sop_instance_uid)
            .join(instances, instances.c.sop_instance_uid == conflicts.c.sop_instance_uid)
            .where(instances.c.study_instance_uid == study_instance_uid)
            .order_by(conflicts.c.id)
        )
        with reading(self._engine) as db:
            return list(db.execute(query).scalars())

    def stored_bytes(self) -> int:
        """Size of all instance files together."""
        return stored_bytes(self._engine)


def stored_bytes(engine: Engine) -> int:
    """Size of all instance files together; reads every row."""
    with reading(engine) as db:
        return int(db.execute(select(func.coalesce(func.sum(instances.c.size_bytes), 0))).scalar_one())


_KEEP = upsert(instances).on_conflict_do_nothing().returning(instances.c.id)
_FIRST = select(
    instances.c.sha256,
    instances.c.file,
    FILE_BYTES.label("file_bytes"),
).where(instances.c.sop_instance_uid == bindparam("sop_instance_uid"))
_MEND = update(instances).where(instances.c.sop_instance_uid == bindparam("uid")).values(file=bindparam("new_file"))
_STUDY_WAITS = (  # the study has an instance that no snapshot has; the wait starts with the first such one
    upsert(studies)
    .values(
        study_instance_uid=bindparam("study_instance_uid"),
        first_received_at=bindparam("at"),
        last_received_at=bindparam("at"),
        last_instance_id=bindparam("instance_id"),
        waiting=True,
    )
    .on_conflict_do_update(
        index_elements=["study_instance_uid"],
        set_={
            "first_received_at": case((studies.c.waiting, studies.c.first_received_at), else_=bindparam("at")),
            "last_received_at": bindparam("at"),
            "last_instance_id": bindparam("instance_id"),
            "waiting": True,
        },
    )
)


def _keep(db: Connection, row: Mapping[str, Any]) -> Kept:
    new_id = db.execute(_KEEP, row).scalar_one_or_none()
    if new_id is not None:
        waits = {"study_instance_uid": row["study_instance_uid"], "at": row["received_at"], "instance_id": new_id}
        db.execute(_STUDY_WAITS, waits)
        return Kept.NEW
    first = db.execute(_FIRST, {"sop_instance_uid": row["sop_instance_uid"]}).one()
    if first.sha256 == row["sha256"]:
        if not _is_lost(Path(first.file), first.file_bytes):
            return Kept.DUPLICATE
        db.execute(_MEND, {"uid": row["sop_instance_uid"], "new_file": row["file"]})
        return Kept.MENDED
    columns = ("sop_instance_uid", "sha256", "file", "association_id", "received_at")
    aside = upsert(conflicts).on_conflict_do_nothing().returning(conflicts.c.id)
    new = db.execute(aside, {column: row[column] for column in columns}).scalar_one_or_none()
    return Kept.CONFLICT if new is not None else Kept.KNOWN_CONFLICT


def _is_lost(file: Path, size_bytes: int | None) -> bool:
    """Whether it is not there, or has another size; what cannot be looked at may be as it was."""
    try:
        found = file.stat().st_size
    except OSError as problem:
        return isinstance(problem, FileNotFoundError)
    return size_bytes not in (None, found)


def _close(db: Connection, association_id: int, ending: str, at: float) -> None:
    """Note the ending of an association that is open, once."""
    closed = db.execute(
        update(associations)
        .where(associations.c.id == association_id, associations.c.ending.is_(None))
        .values(ending=ending, closed_at=at)
        .returning(associations.c.calling_ae_title, associations.c.peer)
    ).first()
    if closed is None:
        return
    kinds = instances.c.study_instance_uid, instances.c.sop_class_uid
    query = select(*kinds, func.count()).where(instances.c.association_id == association_id).group_by(*kinds)
    studies_of: dict[str, dict[str, int]] = {}
    for study, sop_class, count in db.execute(query):
        studies_of.setdefault(pseudonym(study), {})[sop_class] = count
    what = {"association": association_id, "peer": closed.peer, "ending": ending, "studies": studies_of}
    outcome = AuditOutcome.SUCCESS if ending == "released" else AuditOutcome.FAILURE
    append_audit(db, AuditEvent.INSTANCES_RECEIVED, who=closed.calling_ae_title, what=what, at=at, outcome=outcome)


def _instance(row: Mapping[Any, Any]) -> Instance:
    return Instance(
        sop_instance_uid=row["sop_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        series_instance_uid=row["series_instance_uid"],
        study_instance_uid=row["study_instance_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        file=row["file"],
        header={k: tuple(v) if isinstance(v, list) else v for k, v in row["header"].items()},
        association_id=row["association_id"],
        received_at=row["received_at"],
    )
