"""Backup: one consistent copy of the database while the node runs, on the disk and verified before it has its name.

It holds the ledger alone. Instance and result files never change once they are published, so that any copy of them
that is made after the backup has every file that its rows name.
"""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ichnode.domain.progress import Tell, silently
from ichnode.errors import BackupError
from ichnode.storage.files import sync_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was verified."""

    file: Path
    size_bytes: int
    instances: int
    jobs: int


def back_up(database: Path, target: Path, tell: Tell = silently) -> Backup:
    """Copy `database` to the new file `target`, one state of it. Raises BackupError, and leaves nothing then."""
    if target.exists():
        raise BackupError(f"{target} exists already; a backup never overwrites anything")
    if not database.exists():
        raise BackupError(f"there is no database at {database}")
    temporary = target.with_name(f"{target.name}.part")
    try:
        temporary.unlink(missing_ok=True)
        size_mb = database.stat().st_size / 1e6
        tell(f"copying {size_mb:.0f} MB")
        _copy(database, temporary)
        tell(f"verifying {size_mb:.0f} MB")
        instances, jobs = _verified(temporary)
        tell("bringing the copy to the disk")
        _sync(temporary)
        temporary.rename(target)
        sync_folder(target.absolute().parent)
    except (sqlite3.Error, OSError) as problem:
        raise BackupError(f"{target}: {problem}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return Backup(file=target, size_bytes=target.stat().st_size, instances=instances, jobs=jobs)


def _copy(database: Path, temporary: Path) -> None:
    with closing(sqlite3.connect(database, timeout=10)) as source, closing(sqlite3.connect(temporary)) as copy:
        source.backup(copy)  # all pages in one step: writers go on in the write-ahead log, and nothing starts over
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it


def _verified(copy: Path) -> tuple[int, int]:
    """Counts of instances and jobs, once SQLite finds nothing wrong in the copy."""
    with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)) as db:
        said = [line for (line,) in db.execute("PRAGMA integrity_check")]
        if said != ["ok"]:
            raise BackupError(f"the copy is not sound, so it was removed: {said[0]}")
        if broken := db.execute("PRAGMA foreign_key_check").fetchall():
            raise BackupError(f"the copy has {len(broken)} rows that name a row that is not there; it was removed")
        (instances,), (jobs,) = (db.execute(f"SELECT count(*) FROM {t}").fetchone() for t in ("instances", "jobs"))
    return instances, jobs


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
