"""An audit record repository that speaks syslog over TLS, with a certificate of its own."""

import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Self


def make_certificate(folder: Path, name: str = "collector") -> tuple[Path, Path]:
    """A self-signed certificate for the loopback address, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return certificate, key


class SyslogCollector:
    """Takes one connection after the other; `messages` are what came in whole frames."""

    def __init__(self, certificate: Path, key: Path, *, clients: Path | None = None, port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        if clients:
            self._context.load_verify_locations(clients)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = self._listening.getsockname()[1]
        self.messages: list[bytes] = []
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)

    def wait_for(self, text: bytes, *, timeout_s: float = 30) -> bytes:
        """The first message with `text`."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: any(text in m for m in self.messages), timeout_s), self.messages
            return next(m for m in self.messages if text in m)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    self._read(connection)
            except OSError:
                plain.close()

    def _read(self, connection: ssl.SSLSocket) -> None:
        with connection.makefile("rb") as stream:
            while head := _until_space(stream):
                message = stream.read(int(head))
                with self._arrived:
                    self.messages.append(message)
                    self._arrived.notify_all()


def _until_space(stream) -> bytes:
    head = b""
    while (c := stream.read(1)) not in (b" ", b""):
        head += c
    return head
