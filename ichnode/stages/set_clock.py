"""SetClock: notices when the wall clock is set, so that nobody takes a difference of its times for a duration."""

from collections.abc import Callable

_TOLERANCE_S = 1.0  # a clock that is slewed stays within it


class SetClock:
    """Compares a wall clock with a monotonic one each time it is looked at."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._apart = clock() - monotonic()
        self._set_at = float("-inf")

    def look(self) -> None:
        """To be called often; what lies between two looks counts as one step."""
        now = self._clock()
        apart = now - self._monotonic()
        if abs(apart - self._apart) > _TOLERANCE_S:
            self._set_at = now
        self._apart = apart

    def trusted_since(self) -> float:
        """From then on differences to now are durations; before, the clock was set."""
        self.look()
        return self._set_at
