"""Check: what one look at the installation found, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # works, but somebody should know
    FAILURE = "failure"  # something will not work


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the report."""

    name: str
    level: Level
    detail: str
    fix: str = ""  # what to do; every failure has one


def ok(name: str, detail: str) -> Check:
    """Nothing to do."""
    return Check(name=name, level=Level.OK, detail=detail)


def warning(name: str, detail: str, fix: str = "") -> Check:
    """Works, but somebody should know."""
    return Check(name=name, level=Level.WARNING, detail=detail, fix=fix)


def failure(name: str, detail: str, fix: str) -> Check:
    """Does not work until somebody does `fix`."""
    return Check(name=name, level=Level.FAILURE, detail=detail, fix=fix)
