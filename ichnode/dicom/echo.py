"""C-ECHO, and what a peer accepts: an association that stores nothing. When there is none, why."""

import socket
import ssl
import time
from collections.abc import Collection
from dataclasses import dataclass

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from ichnode.dicom.scu import Peer, associate
from ichnode.dicom.tls import shown_expires_at
from ichnode.errors import DeliveryError

_ALERT_S = 1.0  # for a peer that refuses our certificate to say so, after its own handshake succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """What an association with a peer found."""

    accepted: frozenset[str]  # of the SOP classes that were offered
    status: int | None  # of C-ECHO; None: Verification is not accepted
    seconds: float
    certificate_expires_at: float | None = None  # of the peer, where it was reached by TLS


def echo(peer: Peer, sop_classes: Collection[str], *, calling_ae_title: str) -> Echo:
    """Offer `sop_classes` beside Verification, and echo. Raises DeliveryError, which says why there is no answer."""
    began = time.perf_counter()
    try:
        association = associate(peer, {*sop_classes, str(Verification)}, calling_ae_title=calling_ae_title)
    except DeliveryError as problem:
        raise DeliveryError(None, _why_unreachable(peer) or problem.detail, permanent=problem.permanent) from problem
    if association is None:
        return Echo(accepted=frozenset(), status=None, seconds=time.perf_counter() - began)
    try:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        status = None
        if Verification in accepted:
            status = association.send_c_echo().get("Status")
            if status is None:
                raise DeliveryError(None, "no answer to C-ECHO", permanent=False)
        return Echo(
            accepted=frozenset(accepted & set(sop_classes)),
            status=status,
            seconds=time.perf_counter() - began,
            certificate_expires_at=shown_expires_at(association.dul.socket.socket),
        )
    finally:
        if association.is_established:
            association.release()


def _why_unreachable(peer: Peer) -> str:
    """What TCP or TLS says; "" when neither is what is wrong."""
    try:
        with socket.create_connection((peer.host, peer.port), timeout=peer.connect_timeout_s) as plain:
            if peer.tls is None:
                return ""
            with peer.tls.wrap_socket(plain, server_hostname=peer.host) as connection:
                connection.settimeout(_ALERT_S)
                try:
                    connection.recv(1)
                except TimeoutError:
                    return ""
    except ssl.SSLCertVerificationError as problem:
        return f"TLS: its certificate is not trusted: {problem.verify_message}"
    except ssl.SSLError as problem:
        return f"TLS: {(problem.reason or str(problem)).lower().replace('_', ' ')}"
    except OSError as problem:
        return problem.strerror or str(problem)
    return ""
