"""Syslog over TLS (RFC 5424 messages in RFC 5425 frames), as PS3.15 A.6 wants audit messages sent."""

import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ichnode.dicom.tls import trusting

_PRIORITY = 10 * 8 + 5  # security and authorization; normal but significant
_MESSAGE_ID = "DICOM+RFC3881"  # PS3.15 A.6
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Where audit messages go."""

    host: str
    port: int
    ca_file: Path | None = None  # None: the authorities that this machine trusts
    cert_file: Path | None = None  # of the node, where the collector asks for one
    key_file: Path | None = None
    timeout_s: float = 10.0

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


def send_syslog(collector: Collector, messages: Sequence[tuple[float, bytes]], *, ae_title: str) -> None:
    """Send messages (time, XML) over one connection. Raises OSError (also of TLS) when they may not have arrived.

    Syslog acknowledges nothing, so the connection is closed by both sides before they count as sent.
    """
    with (
        socket.create_connection((collector.host, collector.port), timeout=collector.timeout_s) as plain,
        _context(collector).wrap_socket(plain, server_hostname=collector.host) as connection,
    ):
        for at, xml in messages:
            connection.sendall(frame(at, xml, ae_title=ae_title))
        with suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError, TimeoutError):
            connection.unwrap()  # a collector that was killed meanwhile answers with a reset


def reach(collector: Collector) -> None:
    """Connect and say nothing. Raises OSError, also of TLS."""
    with (
        socket.create_connection((collector.host, collector.port), timeout=collector.timeout_s) as plain,
        _context(collector).wrap_socket(plain, server_hostname=collector.host),
    ):
        pass


def frame(at: float, xml: bytes, *, ae_title: str) -> bytes:
    """One message with the length before it (RFC 5425 4.3)."""
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = socket.gethostname()[:255] or "-"
    head = f"<{_PRIORITY}>1 {stamp} {host} ichnode-{_word(ae_title)} {os.getpid()} {_MESSAGE_ID} - "
    message = head.encode("ascii", "replace") + _BOM + xml
    return f"{len(message)} ".encode() + message


def _context(collector: Collector) -> ssl.SSLContext:
    return trusting(collector.ca_file, certificate=collector.cert_file, key=collector.key_file)


def _word(text: str) -> str:
    """Without spaces, as a field of a syslog header."""
    return "".join(c if "!" <= c <= "~" else "_" for c in text)[:40]
