"""A peer on a bare socket that sends whatever bytes it is given, and says what came back.

An outcome is the status of a response, or one word: "accepted", "rejected", "released", "aborted" (A-ABORT), "closed"
(the connection ended), "silent" (neither, within the time that is promised).
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Self

from tests.hostile import commands, pdus

PROMISED_S = 15.0  # RELIABILITY.md 5.1: until any connection is answered with A-ABORT, or closed
PATIENCE_S = PROMISED_S + 1.5  # a busy machine measures a little late

ENDED = frozenset({"aborted", "closed"})
REFUSED = ENDED | {"rejected"}
DECIDED = REFUSED | {"accepted"}
_KINDS = {
    pdus.ASSOCIATE_AC: "accepted",
    pdus.ASSOCIATE_RJ: "rejected",
    pdus.DATA: "response",
    pdus.RELEASE_RP: "released",
    pdus.ABORT: "aborted",
}
_LINGER_NOT = struct.pack("ii", 1, 0)
_LAST_ECHO = 0x7E57


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    kind: str
    body: bytes = b""
    command: dict[int, bytes] = field(default_factory=dict)  # of a response
    longest_pdu: int = 0  # of those that it came in, in bytes after the header

    @property
    def outcome(self) -> int | str:
        """The status of a response; else the kind."""
        return self._number(commands.STATUS) if self.kind == "response" else self.kind

    @property
    def refused(self) -> bool:
        """Whether it says no: a failure status, or the end."""
        status = self.outcome
        return status in REFUSED if isinstance(status, str) else status >> 12 in (0x0, 0xA, 0xC) and status > 1

    @property
    def responds_to(self) -> int:
        """The message ID that a response names."""
        return self._number(commands.RESPONDED_TO)

    @property
    def rejection(self) -> tuple[int, int, int]:
        """Result, source and reason of an A-ASSOCIATE-RJ."""
        assert self.kind == "rejected", self
        return self.body[1], self.body[2], self.body[3]

    @property
    def context_results(self) -> dict[int, int]:
        """Result by presentation context id, of an A-ASSOCIATE-AC (PS3.8 9.3.3.2)."""
        assert self.kind == "accepted", self
        return {content[0]: content[2] for kind, content in _items(self.body[68:]) if kind == 0x21}

    def _number(self, element: int) -> int:
        return int(struct.unpack("<H", self.command[element])[0])


class Peer:
    """One connection. Sending to a node that has closed it is no error: the next answer tells."""

    def __init__(self, port: int, *, address: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S, source_address=(address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, content: bytes) -> Self:
        self.socket.settimeout(PATIENCE_S)
        with suppress(OSError):
            self.socket.sendall(content)
        return self

    def ask(self, content: bytes) -> Answer:
        return self.send(content).answer()

    def associate(self, request: bytes | None = None) -> Self:
        """With the ordinary contexts, unless the `request` says others; it must be accepted."""
        answer = self.ask(pdus.associate_rq() if request is None else request)
        assert answer.kind == "accepted", answer
        return self

    def echo(self, message_id: int = 1) -> Answer:
        return self.ask(pdus.message(pdus.ECHO, commands.echo_rq(message_id)))

    def store(self, context_id: int, sop_instance_uid: bytes, data_set: bytes, **changes) -> Answer:
        """A C-STORE; `changes` are as in `store_rq`."""
        return self.ask(pdus.message(context_id, commands.store_rq(sop_instance_uid, **changes), data_set))

    def in_step(self) -> bool:
        """Whether nothing comes back that was not asked for: the association has ended, or the next answer is that
        to an echo which is asked now."""
        answer = self.echo(_LAST_ECHO)
        return answer.kind in ENDED or (answer.outcome == 0x0000 and answer.responds_to == _LAST_ECHO)

    def answer(self, within_s: float = PATIENCE_S) -> Answer:
        """The next PDU, or the next whole response."""
        deadline = monotonic() + within_s
        command, longest = b"", 0
        try:
            while True:
                kind, body = self._pdu(deadline)
                if kind != pdus.DATA:
                    return Answer(kind=_KINDS.get(kind, f"PDU {kind}"), body=body)
                longest = max(longest, len(body))
                for control, fragment in _values(body):
                    assert control & pdus.COMMAND, "no response of ichnode has a data set"
                    command += fragment
                    if control & pdus.LAST:
                        return Answer(kind="response", command=commands.parsed(command), longest_pdu=longest)
        except TimeoutError:
            return Answer(kind="silent")
        except OSError:
            return Answer(kind="closed")

    def finish(self) -> None:
        """Send no more; still listen."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish with a TCP RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def _pdu(self, deadline: float) -> tuple[int, bytes]:
        head = self._exactly(6, deadline)
        return head[0], self._exactly(struct.unpack_from(">L", head, 2)[0], deadline)

    def _exactly(self, count: int, deadline: float) -> bytes:
        received = b""
        while len(received) < count:
            self.socket.settimeout(max(deadline - monotonic(), 0.001))
            piece = self.socket.recv(count - len(received))
            if not piece:
                raise ConnectionError("the node closed the connection")
            received += piece
        return received


def associated(port: int, *, address: str = "127.0.0.1", within_s: float = 2.0) -> Peer:
    """A peer with an ordinary association; rejected, because others have only just left, it comes again."""
    deadline = monotonic() + within_s
    while True:
        peer = Peer(port, address=address)
        answer = peer.ask(pdus.associate_rq())
        if answer.kind == "accepted":
            return peer
        peer.close()
        assert answer.kind == "rejected", answer
        assert monotonic() < deadline, answer
        Event().wait(0.05)


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(content):
        kind, length = struct.unpack_from(">BxH", content, at)
        yield kind, content[at + 4 : at + 4 + length]
        at += 4 + length


def _values(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        (length,) = struct.unpack_from(">L", body, at)
        yield body[at + 5], body[at + 6 : at + 4 + length]
        at += 4 + length
