"""Soundness: is the database damaged? Looked at when the node starts, and noticed when SQLite says so later.

A damaged database is written no more: what would be acknowledged from then on might not be there tomorrow.
"""

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DAMAGED_HEADER = "unsupported file format"  # for which SQLite has no code of its own
_STEPS = 10_000  # instructions of SQLite between two looks at the time


class LedgerDamaged(SQLAlchemyError):
    """The database file is damaged. Only a backup helps."""


class Soundness:
    """Watches what SQLite says to an engine; after damage, no transaction for writing begins."""

    def __init__(self, engine: Engine) -> None:
        self.trouble = ""  # what SQLite said, once it found damage
        event.listen(engine, "handle_error", self._note)
        event.listen(engine, "begin", self._refuse, insert=True)

    def _note(self, context: ExceptionContext) -> None:
        problem = context.original_exception
        if _is_damage(problem) and not self.trouble:
            self.trouble = str(problem)
            log.critical("database_damaged", extra={"detail": f"{problem}; restore a backup, see docs/keeping.md"})

    def _refuse(self, connection: Connection) -> None:
        if self.trouble and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            raise LedgerDamaged(self.trouble)


def look_for_damage(database: Path, *, limit_s: float) -> None:
    """Read the database for up to `limit_s`. Raises LedgerDamaged; being locked, for instance, is no damage."""
    if not database.exists():
        return
    until = time.monotonic() + limit_s
    try:
        with closing(sqlite3.connect(database, timeout=limit_s)) as db:
            db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as problem:
        if _is_damage(problem):
            raise LedgerDamaged(str(problem)) from None
    else:
        if said != "ok":
            raise LedgerDamaged(said)


def _is_damage(problem: BaseException | None) -> bool:
    if not isinstance(problem, sqlite3.Error):
        return False
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF in _DAMAGED or str(problem) == _DAMAGED_HEADER
