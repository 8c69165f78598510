"""TLS of everything that speaks it: associations, DICOMweb, audit messages, the HTTP side.

As PS3.15 B.12 has it, which is BCP 195 (RFC 8996 and 9325): TLS 1.2 and 1.3 alone, forward secrecy and authenticated
encryption alone. In associations each side shows a certificate.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates

from ichnode.errors import ConfigError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"  # of TLS 1.2; those of 1.3 are all good


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: what this node shows, and whom it trusts."""

    certificate: Path  # with the chain up to, and without, the root
    key: Path
    trusted: Path  # certificates of authorities, or of the peers themselves


def server_context(files: TlsFiles, *, peer_certificate: bool = True) -> ssl.SSLContext:
    """For the SCP. Without `peer_certificate` a peer need not show one. Raises ConfigError."""
    context = _with_files(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED if peer_certificate else ssl.CERT_OPTIONAL
    return context


def web_server_context(files: TlsFiles) -> ssl.SSLContext:
    """For the HTTP side, whose readers show no certificate. Raises ConfigError."""
    context = _with_files(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_NONE
    return context


def client_context(files: TlsFiles, *, check_host_name: bool = True) -> ssl.SSLContext:
    """For the SCU; `check_host_name`: the certificate must be for the host that is called. Raises ConfigError."""
    context = _with_files(ssl.PROTOCOL_TLS_CLIENT, files)
    context.check_hostname = check_host_name
    return context


def trusting(trusted: Path | None, *, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """For a client whose server's certificate is signed by one of `trusted`, or else by whom this machine trusts.

    It shows `certificate`, if any, to a server that asks. Raises OSError.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if trusted:
        context.load_verify_locations(trusted)
    else:
        context.load_default_certs()
    if certificate:
        context.load_cert_chain(certificate, key, password=_no_password)
    return context


def trusting_nobody() -> ssl.SSLContext:
    """For a client that is to speak no TLS."""
    return _context(ssl.PROTOCOL_TLS_CLIENT)


def expires_at(file: Path) -> float:
    """When the first of the certificates in a PEM file expires, in seconds since the epoch. Raises ConfigError."""
    try:
        certificates = load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as problem:
        raise ConfigError((f"tls: {file}: {_why(problem)}",)) from None
    return min(certificate.not_valid_after_utc for certificate in certificates).timestamp()


def shown_expires_at(connection: object) -> float | None:
    """When the certificate expires that a peer shows on a connection; None where there is none, as without TLS."""
    peer_certificate = getattr(connection, "getpeercert", None)  # httpx hands out an object of no public class
    shown = peer_certificate() if peer_certificate else None
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"]))) if shown else None


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a peer's own certificate may stand among the trusted
    return context


def _with_files(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = _context(protocol)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ValueError) as problem:
        raise ConfigError((f"tls.certificate, tls.key: {_why(problem)}",)) from None
    try:
        context.load_verify_locations(files.trusted)
    except OSError as problem:
        raise ConfigError((f"tls.trusted: {files.trusted}: {_why(problem)}",)) from None
    return context


def _no_password() -> str:
    raise OSError("the key is encrypted, and nobody is there to type its password")


def _why(problem: Exception) -> str:
    return getattr(problem, "reason", None) or getattr(problem, "strerror", None) or str(problem)
