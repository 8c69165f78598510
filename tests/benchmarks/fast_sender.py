"""A C-STORE sender that costs almost nothing: PDUs are encoded beforehand, so the receiver is what is measured.

Time runs from the first C-STORE, on associations that are open already, to the answer to the last A-RELEASE.
"""

import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

CT_IMAGE = b"1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = b"1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One instance, without its preamble and file meta information."""

    sop_instance_uid: bytes
    dataset: bytes


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def _pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content)) + content


def _associate_request(called: str, calling: str) -> bytes:
    context = _item(0x20, b"\x01\0\0\0" + _item(0x30, CT_IMAGE) + _item(0x40, EXPLICIT_LITTLE))
    user = _item(0x50, _item(0x51, struct.pack(">L", 131072)) + _item(0x52, b"1.2.3.4"))
    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    return _pdu(1, b"\0\1\0\0" + titles + bytes(32) + _item(0x10, b"1.2.840.10008.3.1.1.1") + context + user)


def _element(group: int, element: int, value: bytes) -> bytes:
    return struct.pack("<HHL", group, element, len(value)) + value


def _padded(uid: bytes) -> bytes:
    return uid + b"\0" * (len(uid) % 2)


def _store_request(message_id: int, instance: Encoded, max_pdu: int) -> bytes:
    command = b"".join(
        (
            _element(0, 0x0002, _padded(CT_IMAGE)),
            _element(0, 0x0100, struct.pack("<H", 1)),
            _element(0, 0x0110, struct.pack("<H", message_id)),
            _element(0, 0x0700, struct.pack("<H", 0)),
            _element(0, 0x0800, struct.pack("<H", 0)),
            _element(0, 0x1000, _padded(instance.sop_instance_uid)),
        )
    )
    command = _element(0, 0x0000, struct.pack("<L", len(command))) + command
    parts = [_pdu(4, struct.pack(">LBB", len(command) + 2, 1, 3) + command)]
    step = min(max_pdu or 131072, 131072) - 6
    for start in range(0, len(instance.dataset), step):
        piece = instance.dataset[start : start + step]
        flag = 2 if start + step >= len(instance.dataset) else 0
        parts.append(_pdu(4, struct.pack(">LBB", len(piece) + 2, 1, flag) + piece))
    return b"".join(parts)


def _receive(peer: socket.socket) -> tuple[int, bytes]:
    head = _exactly(peer, 6)
    return head[0], _exactly(peer, struct.unpack(">L", head[2:])[0])


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        if not piece:
            raise ConnectionError("the receiver closed the connection")
        data += piece
    return data


def _max_pdu(accept: bytes) -> int:
    """Maximum length item (51H) of an A-ASSOCIATE-AC."""
    at = accept.index(b"\x51\0\0\4", 68)
    return int(struct.unpack(">L", accept[at + 4 : at + 8])[0])


def open_association(peer: socket.socket, called: str) -> int:
    """For CT Image Storage in explicit little endian, on context 1; the longest PDU that the receiver reads."""
    peer.sendall(_associate_request(called, "BENCH"))
    kind, accept = _receive(peer)
    assert kind == 2, f"the association was not accepted (PDU type {kind})"
    return _max_pdu(accept)


def send(
    port: int, called: str, instances: list[Encoded], ready: threading.Barrier, *, timeout_s: float | None = None
) -> int:
    """Store over one association once everyone is `ready`; how many were answered with success.

    With `timeout_s`, TimeoutError for an answer that takes longer.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        max_pdu = open_association(peer, called)
        requests = [_store_request(number, instance, max_pdu) for number, instance in enumerate(instances, 1)]
        ready.wait()
        stored = 0
        for request in requests:
            peer.sendall(request)
            _, answer = _receive(peer)
            at = answer.index(b"\0\0\0\x09\x02\0\0\0")  # (0000,0900) Status
            stored += answer[at + 8 : at + 10] == b"\0\0"
        peer.sendall(_pdu(5, bytes(4)))
        _receive(peer)
        return stored


def encoded(content: bytes, sop_instance_uid: str) -> Encoded:
    """The instance in the bytes of a Part 10 file."""
    start = 144 + struct.unpack("<L", content[140:144])[0]
    return Encoded(sop_instance_uid.encode(), content[start:])


def load(folder: Path) -> list[Encoded]:
    """Every file of `folder`."""
    from pydicom import dcmread

    files = sorted(folder.glob("*.dcm"))
    return [encoded(file.read_bytes(), str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)) for file in files]


def main() -> None:
    """PORT CALLED FOLDER ASSOCIATIONS: send everything, print how many were stored and in how many seconds."""
    port, called, folder, associations = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    instances = load(folder)
    stored = [0] * associations
    ready = threading.Barrier(associations + 1)

    def run(index: int) -> None:
        stored[index] = send(port, called, instances[index::associations], ready)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(associations)]
    for thread in threads:
        thread.start()
    ready.wait(60)
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    print(sum(stored), time.perf_counter() - began)


if __name__ == "__main__":
    main()
