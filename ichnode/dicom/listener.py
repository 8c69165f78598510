"""The association acceptor: pynetdicom's, subclassed in this one place where stock behaviour does not suffice.

- AE titles padded with NUL or control characters, and blank ones, get a decision instead of an abort (stock
  pynetdicom fails to decode them).
- The calling AE title is admitted together with the address that it calls from.
- TCP_NODELAY on every socket: without it each C-STORE waits about 40 ms for a delayed acknowledgement.
- The listen queue is longer than pynetdicom's five.
- Data transfer blocks on the socket instead of polling it (`transfer.py`).
"""

import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from socketserver import TCPServer
from typing import Any

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from ichnode.dicom.transfer import ParkedProvider, receive_in_bulk
from ichnode.domain.identity import clean_ae_title

BLANK = "(blank)"  # stands for an AE title of spaces or NULs; contains no valid configured title
_A_ASSOCIATE_RQ = 0x01
_TITLES = (slice(10, 26), slice(26, 42))  # called, calling: PS3.8 table 9-11


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedSource:
    """A calling AE title that may send, from anywhere or from one network. `ae_title` None: any."""

    ae_title: str | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    def admits(self, ae_title: str, address: str) -> bool:
        """Whether this title may call from this address."""
        peer = ipaddress.ip_address(address)
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return self.ae_title in (None, ae_title) and (self.network is None or peer in self.network)


LOOPBACK_ONLY = (
    AdmittedSource(ae_title=None, network=ipaddress.ip_network("127.0.0.0/8")),
    AdmittedSource(ae_title=None, network=ipaddress.ip_network("::1/128")),
)


class Listener(ThreadedAssociationServer):
    """The listening socket; starts an association thread for each connection."""

    request_queue_size = 128
    daemon_threads = True
    admitted: Sequence[AdmittedSource] = LOOPBACK_ONLY

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["request_handler"] = _Handler
        super().__init__(*args, **kwargs)

    def shutdown(self) -> None:
        """Stop listening. (pynetdicom's own also edits a list that only `AE.start_server` fills.)"""
        TCPServer.shutdown(self)
        self.server_close()


class _Handler(RequestHandler):
    server: Listener

    def _create_association(self) -> Any:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # settimeout() would poll before every read
            self.request.setsockopt(
                socket.SOL_SOCKET, direction, struct.pack("ll", int(self.ae.network_timeout or 0), 0)
            )
        association: Any = super()._create_association()
        association.daemon = True
        receive_in_bulk(association)
        association.dul.__class__ = _Provider
        association.acse = _Negotiation(association, self.server.admitted, str(self.client_address[0]))
        return association


class _Provider(ParkedProvider):
    def _decode_pdu(self, bytestream: bytearray) -> Any:
        if bytestream[0] == _A_ASSOCIATE_RQ and len(bytestream) >= 42:
            for title in _TITLES:
                bytestream[title] = _readable(bytes(bytestream[title]))
        return super()._decode_pdu(bytestream)


class _Negotiation(ACSE):
    def __init__(self, association: Any, admitted: Sequence[AdmittedSource], address: str) -> None:
        super().__init__(association)
        self._admitted = admitted
        self._address = address

    def _negotiate_as_acceptor(self) -> None:
        request: Any = self.requestor.primitive
        calling = request.calling_ae_title
        if any(source.admits(calling, self._address) for source in self._admitted):
            super()._negotiate_as_acceptor()
            return
        self.requestor.ae_title = calling
        self.send_reject(0x01, 0x01, 0x03)  # permanent, service user, calling AE title not recognised
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()


def _readable(title: bytes) -> bytes:
    """A title that pynetdicom can decode: text before the first NUL, other unprintable bytes as "?"."""
    text = clean_ae_title(title.decode("latin-1"))
    printable = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
    return (printable or BLANK).ljust(16).encode("ascii")
