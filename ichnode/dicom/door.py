"""The door: accepts connections, and lets in those whose A-ASSOCIATE-RQ is there, whole and in time.

One thread waits for all of them: a peer that says nothing, or a byte a second, or nonsense, or hangs in its TLS
handshake, holds a socket and nothing else, and is gone when its time is over. When too many wait, or file descriptors
run out, those that have waited longest go first.
"""

import errno
import logging
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread

from ichnode.dicom.admission import Rejection, TurnedAway
from ichnode.dicom.pdu import HEAD_BYTES, LONGEST_ASSOCIATE_RQ, BrokenPdu, PduType, Reason, abort, check_head

log = logging.getLogger(__name__)

ARRIVAL_S = 10.0  # from the connection to the last byte of the A-ASSOCIATE-RQ
HANDSHAKE_S = 5.0  # of them, for that of TLS
MOST_WAITING = 1000
MOST_HELD = 64 * 1024**2  # bytes of what all who wait have sent; a request that is admitted has a kilobyte or ten
_BACKLOG = 512
_TICK_S = 0.25
_BACK_OFF_S = 0.2  # without file descriptors
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_TLS_HANDSHAKE = 0x16  # first byte of a TLS connection
_READ = 64 * 1024
_NO_TLS = (  # OpenSSL's words for what is plain, or older
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNSUPPORTED_PROTOCOL",
    "BAD_RECORD_TYPE",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "INVALID_ALERT",
)

Opened = Callable[[socket.socket, str, bytes], None]


@dataclass(slots=True)
class _Arrival:
    """A connection whose A-ASSOCIATE-RQ has not come."""

    connection: socket.socket
    address: str
    since: float  # time.monotonic()
    shakes_hands: bool  # TLS
    begun: bytearray = field(default_factory=bytearray)

    @property
    def until(self) -> float:
        """time.monotonic() at which its time is over."""
        return self.since + (HANDSHAKE_S if self.shakes_hands else ARRIVAL_S)

    @property
    def needed(self) -> int:
        """Bytes of the PDU, as far as is known. Raises BrokenPdu."""
        if len(self.begun) < HEAD_BYTES:
            return HEAD_BYTES
        kind, length = struct.unpack_from(">BxL", self.begun)
        check_head(kind, length, longest=LONGEST_ASSOCIATE_RQ)
        if kind != PduType.ASSOCIATE_RQ:
            raise BrokenPdu(Reason.UNEXPECTED_PDU, f"a PDU of type {kind} before an association")
        return HEAD_BYTES + int(length)


class Door:
    """Listens on one address. `opened` gets a blocking socket, the peer's address and the content of its first PDU."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        opened: Opened,
        turned_away: Callable[[Rejection], None],
        tick: Callable[[], None],
    ) -> None:
        self._tls, self._opened, self._turned_away, self._tick = tls, opened, turned_away, tick
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::"  # and IPv4
        self._listening = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
        self._listening.setblocking(False)
        self._waiting: dict[socket.socket, _Arrival] = {}  # the longest waiting first
        self._held = 0  # bytes that they have sent
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._stop = Event()
        self._rests_until = 0.0
        self._thread = Thread(target=self._run, name="listener", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on (the one chosen by the system when 0 was asked for)."""
        return int(self._listening.getsockname()[1])

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def open(self) -> None:
        """Let peers in from now on."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more, and let go of everybody who waits."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for arrival in list(self._waiting.values()):
            self._let_go(arrival)
        self._selector.close()
        self._listening.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(_TICK_S):
                if key.fileobj is self._listening:
                    self._accept()
                else:
                    self._advance(key.data)
            self._keep_time()

    def _keep_time(self) -> None:
        """What is over ends: waiting, and resting."""
        now = time.monotonic()
        for arrival in [a for a in self._waiting.values() if a.until <= now]:
            self._let_go(arrival)
        if self._rests_until and self._rests_until <= now:
            self._rests_until = 0.0
            self._selector.register(self._listening, selectors.EVENT_READ)
        try:
            self._tick()
        except Exception:
            log.exception("tick_failed")

    def _accept(self) -> None:
        """Everybody who is there; when resources run out, nobody for a while."""
        try:
            for _ in range(_BACKLOG):
                connection, address = self._listening.accept()
                self._take(connection, str(address[0]))
        except BlockingIOError:
            pass
        except OSError as problem:
            if problem.errno not in _OUT_OF_RESOURCES:
                return  # the peer left before it was accepted
            log.error("out_of_file_descriptors", extra={"count": len(self._waiting), "detail": str(problem.strerror)})
            for arrival in list(self._waiting.values())[: len(self._waiting) // 2 + 1]:
                self._let_go(arrival)
            self._selector.unregister(self._listening)
            self._rests_until = time.monotonic() + _BACK_OFF_S

    def _take(self, connection: socket.socket, address: str) -> None:
        """One more who waits, in the place of another when there are too many."""
        if len(self._waiting) >= MOST_WAITING:
            self._let_go(next(iter(self._waiting.values())))
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError:
            connection.close()
            return
        arrival = _Arrival(connection, address, time.monotonic(), shakes_hands=bool(self._tls))
        try:
            self._selector.register(connection, selectors.EVENT_READ, arrival)
        except OSError as problem:  # the system watches no more of them
            log.error("connection_not_watched", extra={"peer": address, "detail": str(problem.strerror)})
            connection.close()
            return
        self._waiting[connection] = arrival
        self._advance(arrival)  # often its first PDU is there already

    def _advance(self, arrival: _Arrival) -> None:
        """Go on with the handshake or the first PDU, as far as bytes are there."""
        if arrival.connection not in self._waiting:
            return
        try:
            if arrival.shakes_hands:
                self._shake_hands(arrival)
            while (missing := arrival.needed - len(arrival.begun)) > 0:
                read = arrival.connection.recv(min(missing, _READ))
                if not read:
                    self._let_go(arrival)
                    return
                arrival.begun += read
                self._held += len(read)
                if self._held > MOST_HELD and self._let_greediest_go() is arrival:
                    return
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:
            self._selector.modify(arrival.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, arrival)
            return
        except ssl.SSLError as problem:
            self._tell(arrival, TurnedAway.TLS, _of_handshake(problem))
            self._let_go(arrival)
        except BrokenPdu as problem:
            is_tls = arrival.begun[:1] == bytes([_TLS_HANDSHAKE])
            said = "speaks TLS, which is not configured here" if is_tls else str(problem)
            self._tell(arrival, TurnedAway.TLS if is_tls else TurnedAway.NO_PDU, said)
            self._let_go(arrival, abort(problem.reason))
        except OSError:
            self._let_go(arrival)
        else:
            self._let_in(arrival)

    def _let_greediest_go(self) -> _Arrival:
        """All who wait have sent too much together: who has sent most goes."""
        greediest = max(self._waiting.values(), key=lambda each: len(each.begun))
        log.error("too_much_held", extra={"peer": greediest.address, "count": len(self._waiting)})
        self._let_go(greediest)
        return greediest

    def _shake_hands(self, arrival: _Arrival) -> None:
        assert isinstance(arrival.connection, ssl.SSLSocket)
        arrival.connection.do_handshake()
        arrival.shakes_hands = False
        self._selector.modify(arrival.connection, selectors.EVENT_READ, arrival)

    def _let_in(self, arrival: _Arrival) -> None:
        connection = arrival.connection
        self._forget(arrival)
        try:
            connection.setblocking(True)
            self._opened(connection, arrival.address, bytes(arrival.begun[HEAD_BYTES:]))
        except (OSError, RuntimeError) as problem:  # the peer left, or there can be no further thread
            log.error("association_not_started", extra={"peer": arrival.address, "detail": str(problem)})
            connection.close()

    def _let_go(self, arrival: _Arrival, last_words: bytes = b"") -> None:
        """Close the connection; nobody waits for the peer to hear it."""
        self._forget(arrival)
        try:
            if last_words and not arrival.shakes_hands:
                arrival.connection.send(last_words)
                arrival.connection.recv(_READ)  # to close on unread bytes is to reset the connection
        except OSError:
            pass
        arrival.connection.close()

    def _tell(self, arrival: _Arrival, why: TurnedAway, reason: str) -> None:
        self._turned_away(Rejection(why=why, reason=reason, peer=arrival.address))

    def _forget(self, arrival: _Arrival) -> None:
        del self._waiting[arrival.connection]
        self._held -= len(arrival.begun)
        self._selector.unregister(arrival.connection)


def _of_handshake(problem: ssl.SSLError) -> str:
    reason = str(problem.reason or problem)
    if reason in _NO_TLS:
        return f"does not speak TLS 1.2 or 1.3, which this port requires ({reason})"
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "shows no certificate, which this port requires"
    return f"the TLS handshake failed: {reason}"
