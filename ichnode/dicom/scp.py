"""The storage SCP: lets peers in, gives each association its thread, and ends those that are silent for too long.

Nothing here knows files or tables: `receiver.Receiver` says what the stages give the SCP to call.
"""

import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from threading import Lock

from ichnode.dicom.admission import LOOPBACK_ONLY, AdmittedSource, Rejection, Slots, TurnedAway
from ichnode.dicom.association import Acceptor, Association
from ichnode.dicom.commitment import CommitmentReport, Reported, report_context
from ichnode.dicom.contexts import accepted_contexts
from ichnode.dicom.door import Door
from ichnode.dicom.pdu import rejection
from ichnode.dicom.receiver import Receiver

log = logging.getLogger(__name__)

MOST_BYTES = 2 * 1024**3  # of one object
NEGOTIATING, NEGOTIATING_EACH = 256, 32  # peers who have no place yet, or get none: in all, of one address
_STOP_S = 2.0  # for associations to end


def _unexpected(_: CommitmentReport) -> bool:
    """No transaction is known."""
    return False


class StorageSCP:
    """Listens on one address until stopped."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        ae_title: str,
        host: str,
        port: int,
        max_associations: int,
        max_associations_per_peer: int | None = None,
        most_bytes: int = MOST_BYTES,
        admitted: Sequence[AdmittedSource] = LOOPBACK_ONLY,
        reported: Reported = _unexpected,
        turned_away: Callable[[Rejection], None] = lambda _: None,
        refuses: Callable[[], bool] = lambda: False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tell = turned_away
        self._acceptor = Acceptor(
            ae_title=ae_title,
            receiver=receiver,
            admitted=admitted,
            contexts=[*accepted_contexts(), report_context()],
            slots=Slots(in_all=max_associations, per_address=max_associations_per_peer or max_associations),
            reported=reported,
            turned_away=self._turn_away,
            refuses=refuses,
            most_bytes=most_bytes,
        )
        self._associations: list[Association] = []
        self._lock = Lock()
        self._door = Door(host, port, tls=tls, opened=self._opened, turned_away=self._turn_away, tick=self._tick)

    @property
    def port(self) -> int:
        """The port that it listens on (the one chosen by the system when 0 was asked for)."""
        return self._door.port

    @property
    def alive(self) -> bool:
        """Whether the listening thread runs."""
        return self._door.alive

    @property
    def open_associations(self) -> int:
        """How many peers have an association, or are about to get one or be rejected."""
        with self._lock:
            return sum(association.thread.is_alive() for association in self._associations)

    def start(self) -> None:
        """Accept associations from now on."""
        self._door.open()

    def stop(self) -> None:
        """Accept nothing more, and abort what is open: the sender keeps what was not acknowledged."""
        self._door.close()
        with self._lock:
            associations = list(self._associations)
        for association in associations:
            association.give_up()
        until = time.monotonic() + _STOP_S
        for association in associations:
            association.thread.join(max(0.0, until - time.monotonic()))

    def _opened(self, connection: socket.socket, address: str, request: bytes) -> None:
        """A peer stands in the door, and its request is there."""
        with self._lock:
            self._forget_ended()
            negotiating = [a.address for a in self._associations if not a.is_served]
            if len(negotiating) >= NEGOTIATING or negotiating.count(address) >= NEGOTIATING_EACH:
                self._turn_away(Rejection(why=TurnedAway.NO_PLACE, reason="too many at once", peer=address))
                connection.send(rejection(2, 3, 1))  # temporary congestion
                connection.close()
                return
            association = Association(connection, address, request, self._acceptor)
            association.thread.start()
            self._associations.append(association)

    def _turn_away(self, rejection: Rejection) -> None:
        """A scanner that cannot send is the most common call an administrator gets: say who is turned away, and why."""
        extra = {"source": rejection.calling_ae_title, "called_ae_title": rejection.called_ae_title}
        log.warning("association_rejected", extra={**extra, "peer": rejection.peer, "reason": rejection.reason})
        self._tell(rejection)

    def _tick(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._forget_ended()
            silent = [a for a in self._associations if a.deadline <= now]
        for association in silent:
            association.give_up()

    def _forget_ended(self) -> None:
        self._associations = [a for a in self._associations if a.thread.is_alive()]
