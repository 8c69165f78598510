"""Work queue: what takes the turns of a stage, and how it learns that there is work. One small interface, twice.

One machine: `stages.loop.Loop`, a thread that asks the ledger, which is the queue. Several: `placed.PlacedTurns`, in
which Procrastinate on PostgreSQL places each job on one of the nodes that have the role. Either way work may be
*offered* twice: the ledger sees to it that it is *done* once.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A job that somebody may work on now."""

    job_id: int
    lock: str  # no two offers under one lock are taken at a time
    rank: int  # 0 stat, 1 routine


class Turns(Protocol):
    """What takes the turns of one stage."""

    name: str

    def start(self) -> None:
        """Begin."""

    def wake(self) -> None:
        """There may be work, for this node or another."""

    def ask_to_stop(self) -> None:
        """Take no further turn; the current one is finished."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the current turn; whether it ended in time."""

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
