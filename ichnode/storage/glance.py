"""Glance: what the database is like, without changing it: its form, and how new its newest row is. Reads only."""

from dataclasses import dataclass

from sqlalchemy import Engine, select

from ichnode.storage.dialect import reading
from ichnode.storage.schema import audit, form_of, instances, jobs, newest_form


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What was seen."""

    form: str | None  # the revision of the tables
    newest_form: str  # the one that this ichnode wants
    newest_at: float | None  # of the newest row; None: there is none


def glance(engine: Engine) -> Glance:
    """Look at the database behind `engine`, in whatever form it is. Raises SQLAlchemyError."""
    newest = newest_form()
    with reading(engine) as db:
        form = form_of(db)
        if form != newest:  # its tables may lack what this ichnode knows
            return Glance(form=form, newest_form=newest, newest_at=None)
        times = [
            db.execute(select(column).order_by(order.desc()).limit(1)).scalar()
            for column, order in (
                (instances.c.received_at, instances.c.id),
                (jobs.c.created_at, jobs.c.id),
                (audit.c.at, audit.c.sequence),
            )
        ]
    return Glance(form=form, newest_form=newest, newest_at=max((at for at in times if at is not None), default=None))
