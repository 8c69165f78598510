"""Loop: a thread that takes turns until it is told to stop."""

import logging
import threading
from collections.abc import Callable

from ichnode.domain.job import retry_delay_s

log = logging.getLogger(__name__)

_FIRST_REST_S, _LONGEST_REST_S = 0.25, 4.0  # the longest: what recovers is noticed within 5 s


class Loop:
    """Calls `turn` again at once while it finds work, else when woken or after `idle_s`.

    After a turn that failed it rests, a little longer each time, whoever wakes it: a full disk or a locked ledger does
    not get better by asking, and each failure is a traceback in the log.
    """

    def __init__(self, name: str, turn: Callable[[], bool], *, idle_s: float) -> None:
        self.name = name
        self._turn = turn
        self._idle_s = idle_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with the first turn."""
        self._thread.start()

    def wake(self) -> None:
        """There may be work."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """Take no further turn; the current one is finished."""
        self._stop.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the current turn; whether it ended in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            self._wake.clear()
            try:
                found_work = self._turn()
            except Exception:
                log.exception("turn_failed", extra={"detail": self.name})
                failures += 1
                self._stop.wait(retry_delay_s(failures, first_s=_FIRST_REST_S, cap_s=_LONGEST_REST_S, jitter=0))
                continue
            failures = 0
            if not found_work:
                self._wake.wait(self._idle_s)
