"""The STOW-RS user agent: stores result files in a DICOMweb archive, and says what became of each (PS3.18 10.5).

Files are streamed as they are, in requests of at most `REQUEST_BYTES`. A redirect is never followed, and no proxy or
password of the environment is used: patients' data and credentials go to the configured server or nowhere.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ichnode.dicom.scu import Outcome, Outgoing, unreadable
from ichnode.dicom.statuses import Verdict, verdict
from ichnode.dicom.tls import shown_expires_at, trusting, trusting_nobody
from ichnode.errors import DeliveryError
from ichnode.secret_files import read_secret

REQUEST_BYTES = 32 * 1024 * 1024  # of files in one request; a larger file goes alone
_RESPONSE_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_TRANSIENT = frozenset({401, 408, 413, 425, 429})  # a token may be renewed, a limit be raised; and every 5xx
_FAILED_SOP_SEQUENCE, _REFERENCED_SOP_SEQUENCE = "00081198", "00081199"
_SOP_INSTANCE_UID, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"
_PROCESSING_FAILURE = 0x0110


@dataclass(frozen=True, slots=True, kw_only=True)
class StowService:
    """A DICOMweb archive; with a bearer token (RFC 6750), with name and password (RFC 7617), or with neither.

    The files of token and password are read for each request, so that they can be renewed.
    """

    url: str  # of the service, without /studies
    connect_timeout_s: float = 10
    response_timeout_s: float = 60
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None  # PEM of who signs the server's certificate; None: whom the system trusts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a server said. `stored` and `failed`: SOP Instance UID -> warning or failure reason; many send neither."""

    code: int
    phrase: str
    stored: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)


def store(service: StowService, objects: Sequence[Outgoing]) -> Iterator[list[Outcome]]:
    """Store `objects` in order; yields the outcomes of each request; a file that cannot be read is one by itself.

    Raises DeliveryError when there is no response: objects without an outcome were not taken.
    """
    batch: list[tuple[Outgoing, int]] = []
    for outgoing in objects:
        try:
            size = _size_of(Path(outgoing.file))
        except (OSError, ValueError) as problem:
            if batch:
                yield _store_batch(service, batch)
            batch = []
            yield [unreadable(problem)]
            continue
        if batch and sum(known for _, known in batch) + size > REQUEST_BYTES:
            yield _store_batch(service, batch)
            batch = []
        batch.append((outgoing, size))
    if batch:
        yield _store_batch(service, batch)


def ask(service: StowService) -> tuple[int, float | None]:
    """Ask what the service allows, which stores and reads nothing: status code, and when its certificate expires.

    Raises DeliveryError when there is no response.
    """
    try:
        with _client(service) as client, client.stream("OPTIONS", _studies(service)) as response:
            connection = response.extensions["network_stream"].get_extra_info("ssl_object")
            return response.status_code, shown_expires_at(connection)
    except (httpx.HTTPError, OSError) as problem:
        raise DeliveryError(None, f"{type(problem).__name__} {problem}".strip(), permanent=False) from problem


def _size_of(file: Path) -> int:
    """Bytes of a file. Raises OSError or ValueError when it is no DICOM file."""
    with file.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            raise ValueError("no DICOM file")
        return stream.seek(0, 2)


def _store_batch(service: StowService, batch: Sequence[tuple[Outgoing, int]]) -> list[Outcome]:
    answer = _post(service, batch)
    return [_outcome(answer, outgoing.sop_instance_uid) for outgoing, _ in batch]


def _post(service: StowService, batch: Sequence[tuple[Outgoing, int]]) -> _Answer:
    """One request. Raises DeliveryError."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    end = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + size + 2 for _, size in batch) + len(end)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(length),
        "Accept": "application/dicom+json",
    }
    try:
        with (
            _client(service) as client,
            client.stream(
                "POST",
                _studies(service),
                content=_body([Path(outgoing.file) for outgoing, _ in batch], head, end),
                headers=headers,
            ) as response,
        ):
            return _answer(response, time.monotonic() + service.response_timeout_s)
    except httpx.HTTPError as problem:
        said = "" if isinstance(problem, httpx.LocalProtocolError) else str(problem)  # which quotes what we would send
        detail = f"no answer from {service.url}: {type(problem).__name__} {said}".strip()
        raise DeliveryError(None, detail, permanent=False) from problem
    except OSError as problem:  # a result, a token, a password, a certificate
        raise DeliveryError(None, f"cannot be read: {problem}", permanent=False) from problem


def _body(files: Sequence[Path], head: bytes, end: bytes) -> Iterator[bytes]:
    for file in files:
        yield head
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
        yield b"\r\n"
    yield end


def _client(service: StowService) -> httpx.Client:
    """For one request. Raises OSError and DeliveryError where files or credentials cannot be used."""
    return httpx.Client(
        verify=trusting_nobody() if httpx.URL(service.url).scheme == "http" else trusting(service.ca),
        timeout=httpx.Timeout(service.response_timeout_s, connect=service.connect_timeout_s),
        trust_env=False,
        auth=_basic(service),
        headers={"Accept-Encoding": "identity", **_bearer(service)},
    )


def _studies(service: StowService) -> str:
    return f"{service.url.rstrip('/')}/studies"


def _bearer(service: StowService) -> dict[str, str]:
    token = _secret(service.token_file) if service.token_file else service.token
    if token and not all("!" <= character <= "~" for character in token):
        where = service.token_file or "token"
        raise DeliveryError(None, f"{where} is no bearer token: one word of ASCII is needed", permanent=False)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _basic(service: StowService) -> tuple[str, str] | None:
    if service.username is None or service.password_file is None:
        return None
    return service.username, _secret(service.password_file)


def _secret(file: Path) -> str:
    """Raises OSError and DeliveryError."""
    try:
        return read_secret(file)
    except ValueError as problem:
        raise DeliveryError(None, f"{file} holds no secret: {problem}", permanent=False) from None


def _answer(response: httpx.Response, until: float) -> _Answer:
    """Read the response, as far as it is not endless. Raises DeliveryError."""
    if response.has_redirect_location:
        phrase = f"redirects to {httpx.URL(response.headers['Location']).host or 'elsewhere'}, which is not followed"
        return _Answer(code=response.status_code, phrase=phrase)
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if time.monotonic() > until or len(content) > _RESPONSE_BYTES:
            raise DeliveryError(None, f"HTTP {response.status_code} without an end", permanent=False)
    try:
        document = json.loads(bytes(content))
    except (ValueError, RecursionError):
        document = None
    return _Answer(
        code=response.status_code,
        phrase=response.reason_phrase,
        stored=_reasons(document, _REFERENCED_SOP_SEQUENCE, _WARNING_REASON, 0x0000),
        failed=_reasons(document, _FAILED_SOP_SEQUENCE, _FAILURE_REASON, _PROCESSING_FAILURE),
    )


def _reasons(document: Any, sequence: str, reason: str, default: int) -> dict[str, int]:
    """SOP Instance UID -> reason, of the items of a sequence of the Store Instances Response Module (PS3.18 I.2.2)."""
    found = {}
    for data_set in document if isinstance(document, list) else [document]:
        for item in _values(data_set, sequence):
            for uid in _values(item, _SOP_INSTANCE_UID):
                (code, *_) = [*_values(item, reason), default]
                found[str(uid)] = code if isinstance(code, int) else default
    return found


def _values(data_set: Any, tag: str) -> list[Any]:
    """The values of an element of the DICOM JSON model (PS3.18 F.2); none where there is no such thing."""
    element = data_set.get(tag) if isinstance(data_set, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _outcome(answer: _Answer, sop_instance_uid: str) -> Outcome:
    """Of one instance: what the response says of it, else what the status code says of all."""
    said = f"HTTP {answer.code} {answer.phrase}".strip()
    listed = bool(answer.stored or answer.failed) and (answer.code < 300 or answer.code == 409)
    if not listed:
        return Outcome(verdict=_of_all(answer.code), status=None, detail=said)
    if (reason := answer.failed.get(sop_instance_uid)) is not None:
        return Outcome(verdict=verdict(reason), status=reason, detail=f"0x{reason:04X} {said}")
    if (warning := answer.stored.get(sop_instance_uid)) is not None:
        return Outcome(verdict=Verdict.DELIVERED, status=warning, detail=said)
    return Outcome(verdict=Verdict.TRANSIENT, status=None, detail=f"{said}, without a word about the instance")


def _of_all(code: int) -> Verdict:
    """What a response without a list means (PS3.18 table 10.5.3-1): 202 says that some were not stored."""
    if code < 300 and code != 202:
        return Verdict.DELIVERED
    return Verdict.TRANSIENT if code == 202 or code in _TRANSIENT or code >= 500 else Verdict.PERMANENT
