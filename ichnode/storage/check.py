"""Check: is the database sound, and do rows and files agree? Reads only, also while the node runs.

A node at work renames a file just before its row is committed, and removes files just after a purge is committed. So
files are listed before rows are read, what has no row counts only when it is older than `SETTLED_S`, and a row whose
file is gone is looked up once more.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError

from ichnode.domain.progress import Tell, silently
from ichnode.storage.dialect import reading
from ichnode.storage.schema import FILE_BYTES, conflicts, discards, form_of, instances, newest_form, results

SETTLED_S = 60.0
_TOLD_EVERY = 1000  # rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it should be."""

    kind: str  # database, foreign_key, form, missing_file, wrong_size, file_without_row, half_written
    subject: str  # a table, or the path of a file
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a check looked at and found."""

    rows: int  # of instances, quarantined instances and results
    files: int
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Expected:
    file: str
    size_bytes: int | None  # None: not known, but not empty


def check(engine: Engine, folders: Sequence[Path], *, now: float | None = None, tell: Tell = silently) -> Check:
    """Look at the database behind `engine` and the files below `folders`; `now` is the time of the disk's clock."""
    tell("listing files")
    found = _files_below(folders, time.time() if now is None else now)
    tell("checking the database")
    try:
        with reading(engine) as db:
            problems = _of_database(db)
            if problems:
                return Check(rows=0, files=len(found), problems=tuple(problems))
            expected = list(_expected(db))
            missing = [*_missing(expected, tell)]
            still = {one.file for one in _expected(db)} if missing else set()
            leaving = set(db.execute(select(discards.c.file)).scalars())
    except DBAPIError as problem:
        unreadable = Problem(kind="database", subject="database", detail=str(problem.orig))
        return Check(rows=0, files=len(found), problems=(unreadable,))
    problems = [problem for problem in missing if problem.subject in still]
    problems += _without_rows(found, leaving | {one.file for one in expected})
    return Check(rows=len(expected), files=len(found), problems=tuple(problems))


def _of_database(db: Connection) -> list[Problem]:
    """What SQLite says of its own file and of the references between rows, and whether the tables have the newest form.

    PostgreSQL holds references by itself, and its pages are its administrator's to check (pg_amcheck).
    """
    broken: list[Problem] = []
    if db.dialect.name == "sqlite":
        said = [str(line) for line in db.execute(text("PRAGMA integrity_check")).scalars()]
        if said != ["ok"]:
            return [Problem(kind="database", subject="database", detail=line) for line in said]
        for table, row, other, _ in db.execute(text("PRAGMA foreign_key_check")):
            detail = f"row {row} names a row of {other} that is not there"
            broken.append(Problem(kind="foreign_key", subject=str(table), detail=detail))
    form = form_of(db)
    if form != newest_form():
        detail = f"the tables have the form {form}, this ichnode wants {newest_form()}: `ichnode serve` changes them"
        broken.append(Problem(kind="form", subject="database", detail=detail))
    return broken


def _expected(db: Connection) -> Iterator[_Expected]:
    for file, size in db.execute(select(instances.c.file, FILE_BYTES)):
        yield _Expected(file, size)
    for file in db.execute(select(conflicts.c.file)).scalars():
        yield _Expected(file, None)
    here = select(results.c.file, results.c.size_bytes).where(results.c.purged_at.is_(None))
    for file, size in db.execute(here):
        yield _Expected(file, size)


def _missing(expected: Sequence[_Expected], tell: Tell) -> Iterator[Problem]:
    for number, one in enumerate(expected):
        if number % _TOLD_EVERY == 0:
            tell("looking for the file of each row", number, len(expected))
        try:
            size = Path(one.file).stat().st_size
        except OSError as problem:
            yield Problem(kind="missing_file", subject=one.file, detail=problem.strerror or type(problem).__name__)
            continue
        if size == 0 or one.size_bytes not in (None, size):
            wanted = "more than 0" if one.size_bytes is None else one.size_bytes
            yield Problem(kind="wrong_size", subject=one.file, detail=f"{size} bytes instead of {wanted}")


def _files_below(folders: Sequence[Path], now: float) -> dict[str, bool]:
    """Every file, and whether it is old enough to have its row."""
    found: dict[str, bool] = {}
    for folder in folders:
        for file in folder.absolute().rglob("*"):
            try:
                if file.is_file():
                    found[str(file)] = abs(now - file.stat().st_mtime) > SETTLED_S
            except OSError:
                continue  # it was removed meanwhile
    return found


def _without_rows(found: dict[str, bool], named: set[str]) -> Iterator[Problem]:
    for file, settled in sorted(found.items()):
        if settled and file not in named:
            half = file.endswith(".part")
            detail = "left by a killed process; the next start removes it" if half else "no row names it"
            yield Problem(kind="half_written" if half else "file_without_row", subject=file, detail=detail)
