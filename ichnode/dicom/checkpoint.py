"""A checkpoint at which the reactor of a pynetdicom association stands still for certain.

While `send_c_store` and its like await a response, the reactor, which serves requests of the peer, must not run, or it
takes the response for a request, and the sender waits until its time limit. pynetdicom 3.0 clears an event for that and
looks at a flag, which is also up for the moment in which the reactor goes on. Here `clear` returns when it stands.
"""

from threading import Event, Lock, Thread, current_thread

_LOOK_S = 0.05  # how soon it is noticed that the reactor has ended


class Checkpoint(Event):
    """Takes the place of an association's `_reactor_checkpoint`; set: the reactor may go on."""

    def __init__(self, reactor: Thread) -> None:
        super().__init__()
        self._reactor = reactor
        self._lock, self._stands = Lock(), Event()
        super().set()

    def set(self) -> None:
        """Let the reactor go on."""
        with self._lock:
            self._stands.clear()
            super().set()

    def clear(self) -> None:
        """Stop the reactor; on return it stands still, or has ended."""
        super().clear()
        if current_thread() is self._reactor:
            return
        while self._reactor.is_alive() and not self._stands.wait(_LOOK_S):
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """The reactor comes by, and stands here until it may go on."""
        while True:
            with self._lock:
                if self.is_set():
                    return True
                self._stands.set()
            super().wait(timeout)
