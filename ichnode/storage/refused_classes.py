"""Refused classes: which SOP classes a destination does not take, since when and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, select

from ichnode.storage.dialect import reading, upsert
from ichnode.storage.schema import deliveries, refused_classes, results


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedClass:
    """One SOP class at one destination."""

    destination: str
    sop_class_uid: str
    refused_at: float
    job_id: int  # whose result was refused
    status: int | None  # of the C-STORE response; None: the presentation context was rejected
    detail: str


class RefusedClasses:
    """What destinations were found not to take; remembered until it is reset, or taken after all."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[RefusedClass]:
        """Of every destination, in order."""
        query = select(refused_classes).order_by(refused_classes.c.destination, refused_classes.c.sop_class_uid)
        with reading(self._engine) as db:
            return [_refused_class(row._mapping) for row in db.execute(query)]

    def at(self, destination: str) -> Mapping[str, RefusedClass]:
        """By SOP Class UID."""
        query = select(refused_classes).where(refused_classes.c.destination == destination)
        with reading(self._engine) as db:
            return {row.sop_class_uid: _refused_class(row._mapping) for row in db.execute(query)}

    def remember(self, refused: RefusedClass) -> None:
        """It was refused, for the first time or again."""
        key = {"destination": refused.destination, "sop_class_uid": refused.sop_class_uid}
        values = {
            "refused_at": refused.refused_at,
            "job_id": refused.job_id,
            "status": refused.status,
            "detail": refused.detail,
        }
        with self._engine.begin() as db:
            added = upsert(refused_classes).values(**key, **values)
            db.execute(added.on_conflict_do_update(index_elements=list(key), set_=values))

    def reset(self, destination: str, sop_class_uid: str | None = None) -> int:
        """Offer it (None: everything) again from the next job on; how many classes were remembered."""
        chosen = [refused_classes.c.destination == destination]
        if sop_class_uid is not None:
            chosen.append(refused_classes.c.sop_class_uid == sop_class_uid)
        with self._engine.begin() as db:
            return db.execute(delete(refused_classes).where(*chosen)).rowcount

    def ever_taken(self, destination: str, sop_class_uid: str) -> bool:
        """Whether the destination has taken an instance of the class before."""
        query = (
            select(deliveries.c.id)
            .join(results, results.c.id == deliveries.c.result_id)
            .where(
                deliveries.c.destination == destination,
                deliveries.c.state.in_(["sent", "delivered"]),
                results.c.sop_class_uid == sop_class_uid,
            )
        )
        with reading(self._engine) as db:
            return db.execute(query.limit(1)).first() is not None


def _refused_class(row: Mapping[Any, Any]) -> RefusedClass:
    return RefusedClass(
        destination=row["destination"],
        sop_class_uid=row["sop_class_uid"],
        refused_at=row["refused_at"],
        job_id=row["job_id"],
        status=row["status"],
        detail=row["detail"],
    )
