"""A destination that hangs: a raw socket that goes along with an association up to a point, and then does nothing."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.uid import ExplicitVRLittleEndian

ASSOCIATE, STORE, HALF_AN_ANSWER, READING = "associate", "store", "half an answer", "reading"
STEPS = (ASSOCIATE, STORE, HALF_AN_ANSWER, READING)


@contextmanager
def stuck_peer(step: str) -> Iterator[int]:
    """Its port. Stuck before its answer to `associate` or `store`, inside that, or without `reading` what is stored."""
    leave = threading.Event()
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.bind(("127.0.0.1", 0))
    listening.listen(8)

    def serve(connection: socket.socket) -> None:
        with connection:
            request = _pdu(connection)
            if step != ASSOCIATE:
                connection.sendall(_acceptance(request))
                if step != READING:
                    _pdu(connection)
                if step == HALF_AN_ANSWER:
                    connection.sendall(struct.pack(">BxL", 0x04, 1000) + bytes(10))
            leave.wait(60)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    leave.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def _pdu(connection: socket.socket) -> bytes:
    with connection.makefile("rb", buffering=0) as stream:
        head = stream.read(6) or b""
        if len(head) < 6:
            return b""
        (length,) = struct.unpack_from(">L", head, 2)
        body = b""
        while len(body) < length and (more := stream.read(length - len(body))):
            body += more
        return head + body


def _acceptance(request: bytes) -> bytes:
    """An A-ASSOCIATE-AC for every presentation context of `request` (PS3.8 9.3.3)."""
    items, position = b"", 74
    while position + 4 <= len(request):
        kind, length = struct.unpack_from(">BxH", request, position)
        content = request[position + 4 : position + 4 + length]
        if kind == 0x10:
            items += _item(0x10, content)
        elif kind == 0x20:
            items += _item(0x21, bytes([content[0], 0, 0, 0]) + _item(0x40, ExplicitVRLittleEndian.encode()))
        position += 4 + length
    user = _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3")
    body = request[6:74] + items + _item(0x50, user)
    return struct.pack(">BxL", 0x02, len(body)) + body


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content
