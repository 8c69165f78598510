"""The network: our ports, and every destination and collector. Nothing is stored anywhere, and nobody is named."""

import errno
import socket
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TypeVar

from pydicom.uid import UID, KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from ichnode.config import DicomDestination, Settings, WebDestination
from ichnode.dicom.echo import Echo, echo
from ichnode.dicom.scu import Peer
from ichnode.dicom.stow import StowService, ask
from ichnode.dicom.syslog import reach
from ichnode.dicom.tls import client_context
from ichnode.doctor.certificates import of_time
from ichnode.doctor.check import Check, failure, ok, warning
from ichnode.errors import ConfigError, DeliveryError
from ichnode.peers import admitted_sources, audit_collector, dicom_peer, stow_service, tls_files
from ichnode.results.sop_classes import sop_classes_of
from ichnode.web.health import address_here, ready_parts

_Called = TypeVar("_Called", Peer, StowService)
_LONGEST_S = 10.0  # for any one answer, whatever the configuration allows


def check_dicom_port(settings: Settings) -> Check:
    """Can it be bound, or is it our node that listens there?"""
    node, name = settings.node, f"port {settings.node.port} (DICOM)"
    if (told := _without_listener("DICOM", "node", node.host, node.port)) is not None:
        return told
    title = calling_ae_title(settings)
    if title is None:
        if _web_parts(settings).get("listener") == "ok":
            return ok(name, "the node listens; not asked by C-ECHO, since [[sources]] admits nobody from this machine")
        return warning(name, "somebody listens; [[sources]] admits nobody from this machine, so it was not asked")
    try:
        answer = echo_node(settings, title)
    except (DeliveryError, ConfigError) as trouble:
        fix = f"stop whoever listens there (ss -ltnp 'sport = :{node.port}'), or set another node.port"
        return failure(name, f"somebody listens there who does not answer as {node.ae_title}: {trouble}", fix)
    return ok(name, f"our node answers C-ECHO from {title} in {answer.seconds * 1000:.0f} ms")


def check_web_port(settings: Settings) -> Check:
    """The same of the HTTP side; a node that runs and is not ready is a failure."""
    web, name = settings.web, f"port {settings.web.port} (HTTP)"
    if (told := _without_listener("HTTP", "web", web.host, web.port)) is not None:
        return told
    parts = _web_parts(settings)
    if "listener" not in parts:
        fix = f"stop whoever listens there (ss -ltnp 'sport = :{web.port}'), or set another web.port"
        return failure(name, "somebody listens there who is no ichnode", fix)
    if wrong := [f"{part}: {said}" for part, said in parts.items() if said != "ok"]:
        return failure(name, f"the node runs, but {'; '.join(wrong)}", "see its log; a restart brings dead parts back")
    return ok(name, f"the node is ready: {', '.join(parts)}")


def check_dicom_destination(settings: Settings, destination: DicomDestination, *, now: float) -> Iterator[Check]:
    """C-ECHO, and which of the result SOP classes it accepts."""
    name = f"destination {destination.name}"
    wanted = sop_classes_of(
        settings.sent_roles, report_sop=settings.results.report_sop, followup_sop=settings.results.followup_sop
    )
    where = destination.where
    asked = {*wanted, str(StorageCommitmentPushModel)} if destination.commitment else set(wanted)
    try:
        peer = dicom_peer(settings, destination)
        answer = echo(_hurried(peer), asked, calling_ae_title=settings.node.ae_title)
    except ConfigError as problem:
        yield failure(name, str(problem), "put the files of [tls] right")
        return
    except DeliveryError as problem:
        yield failure(name, f"{where}: {problem.detail}", _fix_of(problem.detail, settings, destination))
        return
    said = f"{where}: {_echoed(answer)}, accepts {_names(answer.accepted)}"
    lacking = [uid for uid in wanted if uid not in answer.accepted]
    if KeyObjectSelectionDocumentStorage in lacking:
        lacking.remove(KeyObjectSelectionDocumentStorage)
        fix = "allow ICHNODE to store Key Object Selections there, or set withdraw_rejected = false"
        yield warning(f"rejection notes for {destination.name}", "it refuses them: nothing is withdrawn there", fix)
    if destination.commitment and StorageCommitmentPushModel not in answer.accepted:
        fix = "allow Storage Commitment Push Model there, or set commitment = false"
        yield failure(name, f"{said}; refuses storage commitment, so nothing is ever delivered", fix)
    elif not lacking:
        yield ok(name, said)
    elif destination.fallback and SecondaryCaptureImageStorage in answer.accepted:
        fix = f"allow ICHNODE to store them there, then: ichnode destinations reset {destination.name}"
        yield warning(name, f"{said}; refuses {_names(lacking)}: the summary page stands in", fix)
    else:
        yield failure(name, f"{said}; refuses {_names(lacking)}: jobs fail", "allow ICHNODE to store them there")
    if answer.certificate_expires_at is not None:
        yield of_time(f"certificate of {destination.name}", "what it shows", answer.certificate_expires_at, now)


def check_web_destination(destination: WebDestination, *, now: float) -> Iterator[Check]:
    """Is the DICOMweb service there, and does it let us in? By OPTIONS, which stores nothing."""
    name, url = f"destination {destination.name}", destination.url
    try:
        code, expires_at = ask(_hurried(stow_service(destination)))
    except DeliveryError as problem:
        fix = "see url, firewall and, for a certificate that is not trusted, `ca`; and that its files can be read"
        yield failure(name, f"{url}: {problem.detail}", fix)
        return
    said = f"{url}: HTTP {code} to OPTIONS"
    if code in (401, 403):
        yield failure(name, said, "see token_file, or username and password_file, and what they may do there")
    elif 300 <= code < 400:
        yield failure(name, f"{said}, a redirect, which is not followed", "set url to where it leads")
    elif code == 404:
        yield failure(name, said, "set url to the DICOMweb service itself, without /studies")
    elif code >= 500 and code != 501:
        yield failure(name, said, "the server has trouble of its own: see its log")
    else:
        yield ok(name, f"{said}: it is there; storing was not tried")
    if expires_at is not None:
        yield of_time(f"certificate of {destination.name}", "what it shows", expires_at, now)


def check_audit_collector(settings: Settings) -> Iterator[Check]:
    """Can the collector be reached by TLS? Nothing where none is configured."""
    collector = audit_collector(settings)
    if collector is None:
        return
    name = f"audit collector {collector.name}"
    try:
        reach(replace(collector, timeout_s=min(_LONGEST_S, collector.timeout_s)))
    except OSError as problem:
        said = getattr(problem, "verify_message", None) or problem.strerror or str(problem)
        fix = "see audit.host, audit.port and firewall; for a certificate, audit.ca_file and cert_file"
        yield failure(name, said, fix)
    else:
        yield ok(name, "answers by TLS")


def calling_ae_title(settings: Settings) -> str | None:
    """As whom this machine may call the node; None when [[sources]] admits nobody from here."""
    address = _address_here(settings)
    for source in admitted_sources(settings):
        title = source.ae_title or settings.node.ae_title
        if source.admits(title, address):
            return title
    return None


def echo_node(settings: Settings, title: str) -> Echo:
    """C-ECHO the running node of this configuration as `title`. Raises DeliveryError, ConfigError."""
    files = tls_files(settings)
    peer = Peer(
        ae_title=settings.node.ae_title,
        host=_address_here(settings),
        port=settings.node.port,
        connect_timeout_s=_LONGEST_S,
        response_timeout_s=_LONGEST_S,
        tls=client_context(files, check_host_name=False) if files else None,
    )
    return echo(peer, (), calling_ae_title=title)


def _address_here(settings: Settings) -> str:
    host = settings.node.host
    return "127.0.0.1" if host == "localhost" else address_here(host)


def _web_parts(settings: Settings) -> dict[str, str]:
    """What /readyz says; nothing where no ichnode answers."""
    web = settings.web
    try:
        return ready_parts(web.host, web.port, tls=web.tls) if web.port else {}
    except OSError:
        return {}


def _without_listener(kind: str, section: str, host: str, port: int) -> Check | None:
    """What there is to say of a port that nobody listens on; None where somebody does."""
    if port == 0:
        return ok(f"port ({kind})", f"chosen at each start: {section}.port = 0")
    name = f"port {port} ({kind})"
    problem = _bind(host, port)
    if problem is None:
        return ok(name, f"{host}:{port} is free: no node runs on it")
    return None if problem.errno == errno.EADDRINUSE else _cannot_bind(name, section, problem)


def _bind(host: str, port: int) -> OSError | None:
    """Why the port cannot be listened on; it is given back at once."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as problem:
            return problem
    return None


def _cannot_bind(name: str, section: str, problem: OSError) -> Check:
    if problem.errno == errno.EACCES:
        fix = f"below 1024: `ichnode install-service` allows it to the service, or set another {section}.port"
    else:
        fix = f"set {section}.host to an address of this machine, or to 0.0.0.0"
    return failure(name, problem.strerror or str(problem), fix)


def _hurried(called: _Called) -> _Called:
    return replace(
        called,
        connect_timeout_s=min(_LONGEST_S, called.connect_timeout_s),
        response_timeout_s=min(_LONGEST_S, called.response_timeout_s),
    )


def _echoed(answer: Echo) -> str:
    if answer.status is None:
        return "does not accept Verification"
    took = f"{answer.seconds * 1000:.0f} ms"
    return f"C-ECHO in {took}" if answer.status == 0 else f"C-ECHO answered 0x{answer.status:04X} in {took}"


def _names(sop_classes: Collection[str]) -> str:
    return ", ".join(sorted(UID(uid).name.removesuffix(" Storage") for uid in sop_classes)) or "nothing"


def _fix_of(said: str, settings: Settings, destination: DicomDestination) -> str:
    ours = settings.node.ae_title
    if "TLS" in said:
        return "see that both sides speak TLS, that tls.trusted has its authority, and that it trusts tls.certificate"
    if "alling" in said:
        return f"enter {ours}, with the address of this machine, as an application entity there"
    if "alled" in said:
        return f"ask how it is called there: {destination.ae_title} is not its AE title"
    if "rejected" in said:
        return "see the log of the destination"
    return "see that it runs, host and port, and that firewalls let this machine through"
