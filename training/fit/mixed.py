"""Mixed: batches of two sources, in a fixed order."""

from dataclasses import dataclass
from math import floor
from typing import Generic

from training.fit.source import B, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSource(Generic[B]):
    """Own batches with the given share, evenly among the simulated ones; each kind is numbered by itself."""

    own: Source[B]
    simulated: Source[B]
    share: float

    def batch(self, number: int) -> B:
        """The batch of that number, of one of the two."""
        own = floor(number * self.share)  # batches before this one
        is_own = floor((number + 1) * self.share) > own
        return self.own.batch(own) if is_own else self.simulated.batch(number - own)
