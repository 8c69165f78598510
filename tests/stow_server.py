"""A DICOMweb archive for tests, in this process: takes STOW-RS requests, and can be made to misbehave."""

import json
import ssl
import threading
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread

DEFAULT = object()


@dataclass
class Answer:
    """How a request is answered; the body DEFAULT lists what was stored and what `refused` says."""

    code: int = 200
    body: Any = DEFAULT
    headers: dict[str, str] = field(default_factory=dict)


class StowServer:
    """Listens on a port of its own from the start of a `with` block to its end."""

    def __init__(self, *answers: Answer, stalls: bool = False, tls: tuple[Path, Path] | None = None) -> None:
        self.answers = list(answers)  # for the first requests; then success
        self.refused: dict[str, int] = {}  # SOP Instance UID -> Failure Reason
        self.taken: list[str] = []  # SOP Instance UIDs
        self.requests: list[dict[str, str]] = []  # path and headers, in lower case
        self.parts: list[bytes] = []
        self.meanwhile = lambda: None  # called before an answer to what was taken
        self.released = threading.Event()  # ends a stall
        self._stalls = stalls
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/dicom-web"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                headers = {name.lower(): value for name, value in self.headers.items()}
                archive.requests.append({"path": self.path, **headers})
                body = self.rfile.read(int(headers["content-length"]))
                if archive._stalls:
                    archive.released.wait(30)
                    return
                answer = archive.answers.pop(0) if archive.answers else Answer()
                parts = _parts(headers["content-type"], body)
                archive.parts += parts
                uids = [(d.SOPClassUID, d.SOPInstanceUID) for d in (dcmread(BytesIO(part)) for part in parts)]
                archive.taken += [uid for _, uid in uids if uid not in archive.refused and answer.code < 300]
                archive.meanwhile()
                content = _content(_report(uids, archive.refused) if answer.body is DEFAULT else answer.body)
                self.send_response(answer.code)
                for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def do_OPTIONS(self):
                archive.requests.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                answer = archive.answers.pop(0) if archive.answers else Answer()
                self.send_response(answer.code)
                for name, value in {"Content-Length": "0", **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        return Handler


def _parts(content_type: str, body: bytes) -> list[bytes]:
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    boundary = b"--" + message.get_boundary().encode()
    assert body.endswith(boundary + b"--\r\n")
    parts = body.split(boundary + b"\r\n")[1:]
    heads = [part.partition(b"\r\n\r\n") for part in parts]
    assert all(head == b"Content-Type: application/dicom" for head, _, _ in heads)
    return [content.removesuffix(boundary + b"--\r\n").removesuffix(b"\r\n") for _, _, content in heads]


def _report(uids: list[tuple[str, str]], refused: dict[str, int]) -> dict[str, Any]:
    """The Store Instances Response Module, PS3.18 I.2.2."""

    def item(sop_class: str, uid: str) -> dict[str, Any]:
        result = {"00081150": {"vr": "UI", "Value": [sop_class]}, "00081155": {"vr": "UI", "Value": [uid]}}
        if uid in refused:
            result["00081197"] = {"vr": "US", "Value": [refused[uid]]}
        return result

    stored = [item(*pair) for pair in uids if pair[1] not in refused]
    failed = [item(*pair) for pair in uids if pair[1] in refused]
    return {
        "00081190": {"vr": "UR", "Value": ["http://somewhere/studies/1"]},
        **({"00081198": {"vr": "SQ", "Value": failed}} if failed else {}),
        **({"00081199": {"vr": "SQ", "Value": stored}} if stored else {}),
    }


def _content(body: Any) -> bytes:
    return body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
