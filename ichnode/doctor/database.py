"""The database: is it sound, in the form that this ichnode wants, and how large?"""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from ichnode.config import Settings
from ichnode.doctor.check import Check, failure, ok, warning
from ichnode.storage.dialect import database_file, new_engine
from ichnode.storage.glance import Glance, glance
from ichnode.storage.schema import is_older_form
from ichnode.storage.soundness import LedgerDamaged, look_for_damage

_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Looked:
    """The check, and when the newest row was written."""

    check: Check
    newest_at: float | None = None


def look_at_database(settings: Settings) -> Looked:
    """Its file, its form and its size. Reads for `_LIMIT_S` at the most; `ichnode db check` reads all of it."""
    url = settings.database_url
    file = database_file(url)
    if not file.exists():
        return Looked(ok("database", f"{file} is not there yet: the first start makes it"))
    try:
        look_for_damage(file, limit_s=_LIMIT_S)
        seen = _glance(url)
    except LedgerDamaged as problem:
        return Looked(failure("database", f"{file} is damaged: {problem}", "restore a backup (docs/keeping.md)"))
    except SQLAlchemyError as problem:
        said = str(getattr(problem, "orig", None) or problem).partition("\n")[0]
        fix = "see who may read the file; restore a backup where it is none of ichnode (docs/keeping.md)"
        return Looked(failure("database", f"{file} cannot be read: {said}", fix))
    said = f"{file}: sound, form {seen.form}, {_size_bytes(file) / 1e6:.1f} MB"
    if seen.form == seen.newest_form:
        return Looked(ok("database", said), seen.newest_at)
    if is_older_form(seen.form):
        return Looked(warning("database", f"{said}: older than {seen.newest_form}", "the next start migrates it"))
    fix = "run the ichnode that wrote it, or restore the backup from before (docs/pacs.md, upgrade)"
    return Looked(failure("database", f"{said}: not a form of this ichnode, which wants {seen.newest_form}", fix))


def _size_bytes(file: Path) -> int:
    """Of the database and its write-ahead log."""
    log = file.with_name(f"{file.name}-wal")
    return file.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _glance(url: str) -> Glance:
    engine = new_engine(url)
    try:
        return glance(engine)
    finally:
        engine.dispose()
