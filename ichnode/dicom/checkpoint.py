"""A checkpoint at which the reactor of a pynetdicom association stands still for certain.

While `send_c_store` and its like await a response, the reactor, which serves requests of the peer, must not run, or it
takes the response for a request, and the sender waits until its time limit. pynetdicom 3.0 clears an event for that and
looks at a flag, which is also up for the moment in which the reactor goes on. Here `clear` returns when it stands.
"""

from threading import Condition, Event, Thread, current_thread
from typing import Any

_LOOK_S = 0.05  # how soon it is noticed that the reactor has ended


class Checkpoint(Event):
    """Takes the place of an association's `_reactor_checkpoint`; set: the reactor may go on.

    Whether it may, and whether it stands here, change under one condition, so that neither is missed.
    """

    def __init__(self, reactor: Thread) -> None:
        super().__init__()
        self._reactor = reactor
        self._changed = Condition()
        self._may_go_on, self._stands = True, False

    def is_set(self) -> bool:
        """Whether the reactor may go on."""
        return self._may_go_on

    def set(self) -> None:
        """Let the reactor go on."""
        with self._changed:
            self._may_go_on, self._stands = True, False
            self._changed.notify_all()

    def clear(self) -> None:
        """Stop the reactor; on return it stands still, or has ended."""
        with self._changed:
            self._may_go_on = False
            if current_thread() is not self._reactor:
                while self._reactor.is_alive() and not self._stands and not self._may_go_on:
                    self._changed.wait(_LOOK_S)

    def wait(self, timeout: float | None = None) -> bool:
        """The reactor comes by, and stands here until it may go on."""
        with self._changed:
            while not self._may_go_on:
                self._stands = True
                self._changed.notify_all()
                if not self._changed.wait(timeout):
                    return self._may_go_on
            return True


def place_checkpoint(event: Any) -> None:
    """Give a pynetdicom association its checkpoint: the handler of `EVT_CONN_OPEN`."""
    event.assoc._reactor_checkpoint = Checkpoint(event.assoc)
