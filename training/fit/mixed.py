"""Mixed: batches of two sources, in a fixed order."""

from dataclasses import dataclass
from math import floor
from typing import Generic

from training.fit.source import B, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSource(Generic[B]):
    """Own batches with the given share, evenly among the simulated ones; each kind is numbered by itself.

    Of several processes, which read the batches in turn, each gets that share, and so do all of them at each turn.
    """

    own: Source[B]
    simulated: Source[B]
    share: float
    processes: int = 1

    def batch(self, number: int) -> B:
        """The batch of that number, of one of the two."""
        turn, process = divmod(number, self.processes)
        own = sum(self._own_before(turn, each) for each in range(self.processes))
        own += sum(self._is_own(turn, each) for each in range(process))  # batches before this one
        return self.own.batch(own) if self._is_own(turn, process) else self.simulated.batch(number - own)

    def _is_own(self, turn: int, process: int) -> bool:
        return self._own_before(turn + 1, process) > self._own_before(turn, process)

    def _own_before(self, turn: int, process: int) -> int:
        """Own batches of a process before that turn; the processes begin at different places of one rhythm."""
        return floor(turn * self.share + process / self.processes)
