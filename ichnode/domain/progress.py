"""Progress: how far long work is, as it is told to whoever shows it."""

from typing import Protocol


class Tell(Protocol):
    """Takes note of how far the work is."""

    def __call__(self, doing: str, done: int = 0, total: int | None = None) -> None:
        """What is being done, and how much of it is done; without `total` nobody knows how much there is."""


def silently(doing: str, done: int = 0, total: int | None = None) -> None:
    """A `Tell` for whoever need not know."""
