"""Retention: which studies may be purged, and the one transaction in which their rows go.

A study may go when no instance waits, every job has ended, and every result was delivered or had no destination (those
of a superseded job were replaced, those of a rejected one withdrawn, by a note that was delivered). What stays: jobs,
results and deliveries as rows, the UIDs of purged instances without their headers, and the purge itself (SQLite
overwrites what it deletes, PostgreSQL with the next VACUUM). Files are only named here (`discards`); they are removed
after the commit, so that a kill between the two leaves no row without its file.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.domain.job import UNFINISHED, JobState
from ichnode.domain.judgement import NOTE_ROLE
from ichnode.storage.audit import append_audit
from ichnode.storage.dialect import hold_study, reading, upsert
from ichnode.storage.history import Purge, as_purge
from ichnode.storage.ledger import NODE
from ichnode.storage.outbox import OPEN
from ichnode.storage.schema import (
    conflicts,
    deliveries,
    discards,
    instances,
    jobs,
    purged_instances,
    purges,
    results,
    studies,
    withdrawals,
)


class Retention:
    """The rows of finished studies, and the files that no row needs any more."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def oldest(self, *, received_before: float) -> str | None:
        """The study that may go and whose last instance came first, if that was before `received_before`."""
        query = select(studies.c.study_instance_uid).where(_may_go(received_before))
        with reading(self._engine) as db:
            return db.execute(query.order_by(studies.c.last_instance_id).limit(1)).scalar_one_or_none()

    def purge(self, study_instance_uid: str, *, reason: str, received_before: float, at: float) -> Purge | None:
        """Let the study's rows go and name its files for removal. None when it may not go any more."""
        this = studies.c.study_instance_uid == study_instance_uid
        with self._engine.begin() as db:
            hold_study(db, study_instance_uid)
            if db.execute(select(studies.c.study_instance_uid).where(this, _may_go(received_before))).first() is None:
                return None
            return _purge(db, study_instance_uid, reason, at)

    def discarded(self) -> list[str]:
        """Files that are to be removed."""
        with reading(self._engine) as db:
            return list(db.execute(select(discards.c.file).order_by(discards.c.file)).scalars())

    def forget(self, files: Sequence[str]) -> None:
        """They were removed."""
        with self._engine.begin() as db:
            for file in files:
                db.execute(delete(discards).where(discards.c.file == file))


def _may_go(received_before: float) -> ColumnElement[bool]:
    of_study = jobs.c.study_instance_uid == studies.c.study_instance_uid
    withdrawn = exists().where(withdrawals.c.job_id == deliveries.c.job_id)
    note = exists().where(results.c.id == deliveries.c.result_id, results.c.role == NOTE_ROLE)
    not_delivered = or_(
        deliveries.c.state.in_(OPEN),
        and_(deliveries.c.state.not_in(["delivered", "replaced"]), note),
        and_(deliveries.c.state.not_in(["delivered", "replaced"]), jobs.c.state != JobState.SUPERSEDED, ~withdrawn),
    )
    return and_(
        ~studies.c.waiting,
        studies.c.last_received_at < received_before,
        exists().where(instances.c.study_instance_uid == studies.c.study_instance_uid),
        exists().where(of_study),
        ~exists().where(of_study, jobs.c.state.in_(UNFINISHED)),
        ~exists().where(of_study, withdrawals.c.job_id == jobs.c.id, withdrawals.c.to_do),
        ~exists().where(of_study, deliveries.c.job_id == jobs.c.id, not_delivered),
    )


def _purge(db: Connection, study_instance_uid: str, reason: str, at: float) -> Purge:
    of_study = instances.c.study_instance_uid == study_instance_uid
    aside = conflicts.c.sop_instance_uid.in_(select(instances.c.sop_instance_uid).where(of_study))
    job_ids = select(jobs.c.id).where(jobs.c.study_instance_uid == study_instance_uid)
    here = and_(results.c.job_id.in_(job_ids), results.c.purged_at.is_(None))
    received, received_bytes = db.execute(_count(instances.c.size_bytes).where(of_study)).one()
    made, made_bytes = db.execute(_count(results.c.size_bytes).where(here)).one()
    row = db.execute(
        insert(purges)
        .values(
            study_instance_uid=study_instance_uid,
            at=at,
            reason=reason,
            instances=received,
            results=made,
            instance_bytes=received_bytes,
            result_bytes=made_bytes,
            last_job_id=select(func.max(jobs.c.id)).where(jobs.c.id.in_(job_ids)).scalar_subquery(),
        )
        .returning(purges)
    ).one()
    uids = instances.c.sop_instance_uid, instances.c.series_instance_uid, instances.c.study_instance_uid
    names = [column.name for column in uids] + ["purge_id"]
    gone = upsert(purged_instances).from_select(names, select(*uids, literal(row.id)).where(of_study))
    db.execute(gone.on_conflict_do_update(index_elements=["sop_instance_uid"], set_={"purge_id": row.id}))
    for file, which in ((instances.c.file, of_study), (conflicts.c.file, aside), (results.c.file, here)):
        db.execute(upsert(discards).from_select(["file"], select(file).where(which)).on_conflict_do_nothing())
    db.execute(delete(conflicts).where(aside))
    db.execute(delete(instances).where(of_study))
    db.execute(update(results).where(here).values(purged_at=at))
    what = {"study": pseudonym(study_instance_uid), "reason": reason, "instances": received, "results": made}
    append_audit(db, AuditEvent.STUDY_PURGED, who=NODE, what=what, at=at)
    return as_purge(row._mapping)


def _count(size_bytes: Column[Any]) -> Any:
    """How many rows, and their bytes."""
    return select(func.count(), func.coalesce(func.sum(size_bytes), 0))
