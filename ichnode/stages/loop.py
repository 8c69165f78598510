"""Loop: a thread that takes turns until it is told to stop."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Loop:
    """Calls `turn` again at once while it finds work, else when woken or after `idle_s`."""

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
        while not self._stop.is_set():
            self._wake.clear()
            try:
                found_work = self._turn()
            except Exception:
                log.exception("turn_failed", extra={"detail": self.name})
                found_work = False
            if not found_work:
                self._wake.wait(self._idle_s)
