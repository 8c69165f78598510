"""PDUs of the DICOM upper layer (PS3.8 9.3): read whole, in time and up to a length, and written.

A received length is compared with what is allowed before anything is read, and every PDU has a deadline for the whole
of it, however its bytes trickle in, or out. Reads are large and blocking: nobody polls.
"""

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from typing import NamedTuple

from ichnode.errors import IchnodeError

HEAD_BYTES = 6
PDU_S = 10.0  # for one PDU, from its first byte to its last
SEND_S = 10.0  # for the peer to take what it is sent
LONGEST_ASSOCIATE_RQ = 1024**2  # bytes after the head
_READ_AHEAD = 256 * 1024  # bytes
_LEAST_FRAGMENT = 2  # bytes; who reads less gets this all the same
_NEVER = float("inf")


class PduType(IntEnum):
    """PS3.8 9.3."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class Reason(IntEnum):
    """Why the service provider aborts: PS3.8 9.3.8."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


RELEASE_RP = struct.pack(">BxL4x", PduType.RELEASE_RP, 4)


def abort(reason: Reason) -> bytes:
    """A-ABORT by the service provider."""
    return struct.pack(">BxLxxBB", PduType.ABORT, 4, 2, reason)


def rejection(result: int, source: int, diagnostic: int) -> bytes:
    """A-ASSOCIATE-RJ, PS3.8 9.3.4."""
    return struct.pack(">BxLxBBB", PduType.ASSOCIATE_RJ, 4, result, source, diagnostic)


class BrokenPdu(IchnodeError):
    """What came is no PDU that PS3.8 allows here; answered with A-ABORT for this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Fragment(NamedTuple):
    """A presentation data value: PS3.8 9.3.5.1 and annex E."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview  # valid until the next PDU is read


class PduStream:
    """Reads and writes on one connection; another thread watches `deadline` and calls `give_up` when it is over."""

    def __init__(self, connection: socket.socket, *, longest: int) -> None:
        self._connection = connection
        self._longest = longest
        self._buffer = memoryview(bytearray(max(_READ_AHEAD, longest + HEAD_BYTES)))
        self._start = self._end = 0  # what of the buffer is not yet read out
        self._given_up = self._writes = False
        self.deadline = _NEVER  # time.monotonic() at which what is waited for must be there, or gone

    def give_up(self) -> None:
        """From any thread: read nothing any more, and stop writing. Who reads learns that the connection ended."""
        self._given_up = True
        with suppress(OSError):  # it is gone already
            how = socket.SHUT_RDWR if self._writes else socket.SHUT_RD
            socket.socket.shutdown(self._connection, how)  # TLS or not, the plain socket under it

    def write(self, content: bytes) -> None:
        """Send it within SEND_S. Raises OSError."""
        self.deadline, self._writes = time.monotonic() + SEND_S, True
        try:
            self._connection.sendall(content)
        finally:
            self.deadline, self._writes = _NEVER, False

    def read(self, idle_s: float) -> tuple[PduType, memoryview] | None:
        """Type and content of the next PDU, which must begin within `idle_s`; None where the connection ends.

        The content is valid until the next call. Raises BrokenPdu and OSError.
        """
        self.deadline = time.monotonic() + idle_s
        try:
            if not self._at_least(1):
                return None
            self.deadline = time.monotonic() + PDU_S
            if not self._at_least(HEAD_BYTES):
                return None
            kind, length = struct.unpack_from(">BxL", self._buffer, self._start)
            check_head(kind, length, longest=self._longest)
            if not self._at_least(HEAD_BYTES + length):
                return None
        finally:
            self.deadline = _NEVER
        begin = self._start + HEAD_BYTES
        self._start = begin + length
        return PduType(kind), self._buffer[begin : self._start]

    def _at_least(self, count: int) -> bool:
        """Whether so many unread bytes are there, or came."""
        while self._end - self._start < count:
            if self._start == self._end:
                self._start = self._end = 0
            elif self._start + count > len(self._buffer):
                unread = bytes(self._buffer[self._start : self._end])
                self._buffer[: len(unread)] = unread
                self._start, self._end = 0, len(unread)
            read = self._receive()
            if not read or self._given_up:
                return False
            self._end += read
        return True

    def _receive(self) -> int:
        """Bytes that came; 0 at the end, or when the time is over."""
        if isinstance(self._connection, ssl.SSLSocket):  # of which one side cannot be shut: TLS would be broken then
            self._connection.settimeout(max(0.01, self.deadline - time.monotonic()))
        try:
            return self._connection.recv_into(self._buffer[self._end :])
        except TimeoutError:
            return 0


def check_head(kind: int, length: int, *, longest: int) -> None:
    """Refuse a PDU by its first six bytes. Raises BrokenPdu."""
    if kind not in PduType.__members__.values():
        raise BrokenPdu(Reason.UNRECOGNIZED_PDU, f"no PDU has type 0x{kind:02X}")
    most = longest if kind in (PduType.ASSOCIATE_RQ, PduType.P_DATA) else 4
    if length > most:
        raise BrokenPdu(Reason.INVALID_PARAMETER, f"a PDU of type {kind} has {length} bytes, more than {most}")


def fragments(content: memoryview) -> Iterator[Fragment]:
    """The presentation data values of a P-DATA-TF, at least one (PS3.8 9.3.5). Raises BrokenPdu."""
    if not content:  # such PDUs would also keep a silent association open for ever
        raise BrokenPdu(Reason.INVALID_PARAMETER, "a P-DATA-TF has no presentation data value")
    position = 0
    while position < len(content):
        if position + 6 > len(content):
            raise BrokenPdu(Reason.INVALID_PARAMETER, "a P-DATA-TF ends inside the header of a value")
        length, context_id, control = struct.unpack_from(">LBB", content, position)
        end = position + 4 + length
        if length < 2 or end > len(content):
            left = len(content) - position - 4
            raise BrokenPdu(Reason.INVALID_PARAMETER, f"a presentation data value has {length} bytes, {left} are left")
        yield Fragment(context_id, bool(control & 1), bool(control & 2), content[position + 6 : end])
        position = end


def command_pdus(context_id: int, command: bytes, *, longest: int) -> bytes:
    """A command set as P-DATA-TF PDUs, none longer than the peer reads (0: any)."""
    most = max((longest - 6) & ~1, _LEAST_FRAGMENT) if longest else len(command)
    pieces = [command[begin : begin + most] for begin in range(0, len(command), most)]
    heads = [(len(piece), 3 if number == len(pieces) else 1) for number, piece in enumerate(pieces, 1)]
    return b"".join(
        struct.pack(">BxLLBB", PduType.P_DATA, length + 6, length + 2, context_id, control) + piece
        for piece, (length, control) in zip(pieces, heads, strict=True)
    )
