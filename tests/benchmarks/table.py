"""What every benchmark returns: rows that say who did what under which setting, and how ichnode stands to each peer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import pytest
from rich.console import Console
from rich.table import Table

ICHNODE = "ichnode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contestant in one case."""

    case: str
    contestant: str
    setting: str  # everything that makes the number better or worse: fsync, TCP_NODELAY, PDU length, decoder
    value: float | None  # median of the rounds; None: not installed
    unit: str
    ratio: float | None = None  # ichnode / this peer
    goal: str = ""
    note: str = ""


def alternated(contestants: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """What each contestant measured, one number a round; all of them in turn, so that a busy moment meets everyone.

    A contestant that is not installed is left out of the answer. Every other round runs backwards.
    """
    measured: dict[str, list[float]] = {}
    absent: set[str] = set()
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            if name in absent:
                continue
            try:
                measured.setdefault(name, []).append(contestants[name]())
            except pytest.skip.Exception:  # how the acceptance peers say that they are not here
                absent.add(name)
                del measured[name]
    return measured


def ratios(ichnode: Sequence[float], peer: Sequence[float]) -> float | None:
    """Median over the rounds of ichnode's number by the peer's of the same round; None where there is nothing."""
    return median(ours / theirs for ours, theirs in zip(ichnode, peer, strict=True)) if peer else None


def show(title: str, rows: Sequence[Row]) -> None:
    """Print one benchmark's table."""
    table = Table(title=title, title_justify="left")
    for heading in ("case", "who", "setting"):
        table.add_column(heading)
    for heading in ("median", "ichnode / peer"):
        table.add_column(heading, justify="right")
    for heading in ("goal", "note"):
        table.add_column(heading)
    for row in rows:
        value = (
            "not installed" if row.value is None else f"{row.value:{'.0f' if row.value >= 100 else '.3g'}} {row.unit}"
        )
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.case, row.contestant, row.setting, value, ratio, row.goal, row.note)
    Console(width=180).print(table)
