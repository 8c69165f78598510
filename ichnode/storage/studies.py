"""Studies: those that snapshots were taken of, and what was last decided of their series. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, select

from ichnode.storage.dialect import reading
from ichnode.storage.schema import jobs, snapshots


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStudy:
    """A study as of its newest snapshot."""

    study_instance_uid: str
    last_instance_id: int
    taken_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """What the newest job of a series was opened by."""

    job_id: int
    analyse: bool
    rule: str | None
    reason: str
    detail: str


class Studies:
    """Questions that `ichnode replay` and the rules page ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def since(self, at: float) -> list[StoredStudy]:
        """Studies whose newest snapshot was taken at `at` or later, the oldest first."""
        newest = select(func.max(snapshots.c.id)).group_by(snapshots.c.study_instance_uid)
        query = select(snapshots).where(snapshots.c.id.in_(newest), snapshots.c.taken_at >= at)
        with reading(self._engine) as db:
            return [_stored_study(row._mapping) for row in db.execute(query.order_by(snapshots.c.id))]

    def newest_snapshot(self, study_instance_uid: str) -> StoredStudy | None:
        """The study as of its newest snapshot, if one was taken."""
        query = select(snapshots).where(snapshots.c.study_instance_uid == study_instance_uid)
        with reading(self._engine) as db:
            row = db.execute(query.order_by(snapshots.c.id.desc()).limit(1)).first()
        return _stored_study(row._mapping) if row else None

    def decisions(self, study_instance_uid: str) -> Mapping[str, StoredDecision]:
        """The decision behind the newest job of each series, by Series Instance UID."""
        query = select(jobs).where(jobs.c.study_instance_uid == study_instance_uid).order_by(jobs.c.id)
        with reading(self._engine) as db:
            return {
                row.series_instance_uid: StoredDecision(
                    job_id=row.id,
                    analyse=row.decision == "analyse",
                    rule=row.rule,
                    reason=row.reason,
                    detail=row.detail,
                )
                for row in db.execute(query)
            }


def _stored_study(row: Mapping[Any, Any]) -> StoredStudy:
    return StoredStudy(
        study_instance_uid=row["study_instance_uid"],
        last_instance_id=row["last_instance_id"],
        taken_at=row["taken_at"],
    )
