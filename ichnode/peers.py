"""Peers: whom the settings let in and call: sources, destinations, the audit collector, and their files of TLS."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ichnode.config import DicomDestination, Settings, WebDestination
from ichnode.dicom.admission import LOOPBACK_ONLY, AdmittedSource
from ichnode.dicom.echo import echo
from ichnode.dicom.scu import Peer
from ichnode.dicom.statuses import DimseStatus
from ichnode.dicom.stow import StowService, ask
from ichnode.dicom.syslog import Collector
from ichnode.dicom.tls import TlsFiles, client_context, expires_at
from ichnode.errors import ConfigError, DeliveryError

_CALL_S = 10.0
_Called = TypeVar("_Called", Peer, StowService)


def dicom_peer(settings: Settings, destination: DicomDestination) -> Peer:
    """Whom C-STORE calls. Raises ConfigError when the files of [tls] cannot be used."""
    tls, files = None, tls_files(settings)
    if destination.tls and files is not None:
        tls = client_context(files, check_host_name=settings.tls.check_host_name)
    return Peer(
        ae_title=destination.ae_title,
        host=destination.host,
        port=destination.port,
        connect_timeout_s=destination.connect_timeout_s,
        response_timeout_s=destination.response_timeout_s,
        tls=tls,
    )


def call_destination(settings: Settings, name: str) -> str:
    """What a destination answers to C-ECHO, or a DICOMweb service to OPTIONS; time limits are 10 s at most.

    Raises DeliveryError where it does not, and ConfigError when the files of [tls] cannot be used.
    """
    destination = next(destination for destination in settings.destinations if destination.name == name)
    if isinstance(destination, WebDestination):
        code, _ = ask(_soon(stow_service(destination)))
        if code in (401, 403) or code >= 500:
            raise DeliveryError(code, f"OPTIONS was answered {code}", permanent=False)
        return f"OPTIONS was answered {code}"
    answer = echo(_soon(dicom_peer(settings, destination)), (), calling_ae_title=settings.node.ae_title)
    if answer.status != DimseStatus.SUCCESS:
        said = "C-ECHO is not accepted" if answer.status is None else f"C-ECHO was answered 0x{answer.status:04X}"
        raise DeliveryError(answer.status, said, permanent=False)
    return f"C-ECHO 0x0000 in {answer.seconds * 1000:.0f} ms"


def _soon(called: _Called) -> _Called:
    """With the time limits of a call for which a person waits."""
    return replace(
        called,
        connect_timeout_s=min(called.connect_timeout_s, _CALL_S),
        response_timeout_s=min(called.response_timeout_s, _CALL_S),
    )


def expiry_of_certificates(settings: Settings) -> Mapping[str, tuple[Path, float | None]]:
    """Every file with certificates, by its key, and when the first in it expires; None where it cannot be read."""
    found: dict[str, tuple[Path, float | None]] = {}
    for key, file in settings.certificate_files.items():
        try:
            found[key] = file, expires_at(file)
        except ConfigError:
            found[key] = file, None
    return found


def stow_service(destination: WebDestination) -> StowService:
    """Whom STOW-RS calls."""
    return StowService(
        url=destination.url,
        connect_timeout_s=destination.connect_timeout_s,
        response_timeout_s=destination.response_timeout_s,
        token=destination.token.get_secret_value() if destination.token else None,
        token_file=destination.token_file,
        username=destination.username,
        password_file=destination.password_file,
        ca=destination.ca,
    )


def audit_collector(settings: Settings) -> Collector | None:
    """Where audit messages go; None where they stay."""
    audit = settings.audit
    if audit.host is None:
        return None
    return Collector(
        host=audit.host,
        port=audit.port,
        ca_file=audit.ca_file,
        cert_file=audit.cert_file,
        key_file=audit.key_file,
    )


def admitted_sources(settings: Settings) -> Sequence[AdmittedSource]:
    """The configured sources; without any, this machine alone."""
    sources = [
        AdmittedSource(
            ae_title=source.ae_title, network=ipaddress.ip_network(source.host, strict=False) if source.host else None
        )
        for source in settings.sources
    ]
    return sources or LOOPBACK_ONLY


def tls_files(settings: Settings) -> TlsFiles | None:
    """The files of [tls]; None without them."""
    tls = settings.tls
    if tls.certificate is None or tls.key is None or tls.trusted is None:
        return None
    return TlsFiles(certificate=tls.certificate, key=tls.key, trusted=tls.trusted)
