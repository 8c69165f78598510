"""The storage SCU: sends result files to a destination over one association, and says what became of each."""

import math
import socket
import ssl
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.presentation import build_context

from ichnode.dicom.checkpoint import place_checkpoint
from ichnode.dicom.negotiation import IMPLEMENTATION_VERSION_NAME
from ichnode.dicom.statuses import Verdict, verdict
from ichnode.domain.identity import IMPLEMENTATION_CLASS_UID
from ichnode.errors import DeliveryError

_REJECTED_PERMANENTLY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The application entity to send to."""

    ae_title: str
    host: str
    port: int
    connect_timeout_s: float = 10
    response_timeout_s: float = 60
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A DICOM file to send, Explicit VR Little Endian."""

    sop_class_uid: str
    sop_instance_uid: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a destination made of one instance. `status` None: there was no response."""

    verdict: Verdict
    status: int | None
    detail: str


_UNSUPPORTED = Outcome(verdict=Verdict.UNSUPPORTED, status=None, detail="the destination refuses this SOP class")


def send(peer: Peer, objects: Sequence[Outgoing], *, calling_ae_title: str) -> Iterator[list[Outcome]]:
    """Send `objects` in order; yields the outcome of each, as soon as it is known; a file that cannot be read is one.

    Raises DeliveryError when there is no association, or when it breaks: objects without an outcome were not taken.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # stream the file instead of decoding and encoding it again
    association = associate(peer, {o.sop_class_uid for o in objects}, calling_ae_title=calling_ae_title)
    if association is None:
        yield [_UNSUPPORTED for _ in objects]
        return
    try:
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        for number, outgoing in enumerate(objects, 1):
            if outgoing.sop_class_uid not in accepted:
                yield [_UNSUPPORTED]
                continue
            yield [_store(association, outgoing.file, number)]
    finally:
        if association.is_established:
            association.release()


def _store(association: Any, file: str, message_id: int) -> Outcome:
    """C-STORE of one file. Raises DeliveryError when there is no response."""
    try:
        response = association.send_c_store(file, msg_id=message_id)
    except RuntimeError as lost:  # the destination ended the association after the store before this one
        raise DeliveryError(None, "connection lost", permanent=False) from lost
    except (OSError, InvalidDicomError, ValueError, AttributeError) as problem:  # the last: no file meta information
        return unreadable(problem)
    if "Status" not in response:
        raise DeliveryError(None, "no response within the time limit, or connection lost", permanent=False)
    status = int(response.Status)
    comment = str(response.get("ErrorComment", ""))
    return Outcome(verdict=verdict(status), status=status, detail=f"0x{status:04X} {comment}".strip())


def unreadable(problem: Exception) -> Outcome:
    """Of an object whose file cannot be read: for good where there is none, or no DICOM file; a disk may recover."""
    passes = isinstance(problem, OSError) and not isinstance(problem, FileNotFoundError)
    said = f"result file cannot be read: {problem}"
    return Outcome(verdict=Verdict.TRANSIENT if passes else Verdict.PERMANENT, status=None, detail=said)


def associate(
    peer: Peer, sop_classes: Collection[str], *, calling_ae_title: str, handlers: Sequence[tuple[Any, Any]] = ()
) -> Any:
    """An established association for `sop_classes`; None when the peer accepts none of them. Raises DeliveryError.

    `handlers` are pynetdicom's (event, function) pairs.
    """
    ae = AE(calling_ae_title)
    ae.implementation_class_uid, ae.implementation_version_name = IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = peer.connect_timeout_s
    ae.dimse_timeout = ae.network_timeout = peer.response_timeout_s
    contexts = [build_context(sop_class, ExplicitVRLittleEndian) for sop_class in sorted(sop_classes)]
    bound: list[Any] = [
        (evt.EVT_CONN_OPEN, _prepare(peer.response_timeout_s)),
        (evt.EVT_DATA_SENT, _quick_acknowledgement),
        *handlers,
    ]
    association = ae.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.ae_title,
        evt_handlers=bound,
        max_pdu=0,
        tls_args=(peer.tls, peer.host) if peer.tls else None,
    )
    if association.is_established:
        return association
    if association.is_rejected:
        rejection: Any = association.acceptor.primitive
        permanent = rejection.result == _REJECTED_PERMANENTLY
        raise DeliveryError(None, f"association rejected: {rejection.reason_str}", permanent=permanent)
    if association.acceptor.primitive is not None and not association.accepted_contexts:
        return None
    raise DeliveryError(None, f"no association with {peer.host}:{peer.port}", permanent=False)


def _prepare(timeout_s: float) -> Callable[[Any], None]:
    """TCP_NODELAY, and no read or write that blocks for ever: pynetdicom waits for both, in `abort` too.

    And a checkpoint at which its reactor stops for certain.
    """
    limit = struct.pack("ll", math.ceil(timeout_s), 0)

    def prepare(event: Any) -> None:
        place_checkpoint(event)
        connection = event.assoc.dul.socket.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(connection, ssl.SSLSocket):  # which waits for more itself, whatever the socket is told
            connection.settimeout(timeout_s)
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, direction, limit)

    return prepare


def _quick_acknowledgement(event: Any) -> None:
    """A destination with Nagle's algorithm on holds its response until our delayed acknowledgement: send it now."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None and hasattr(socket, "TCP_QUICKACK"):
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
