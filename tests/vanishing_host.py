"""A machine that loses its power: it forwards to a port of this one, and then answers nothing, not even as TCP does."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ctypes import addressof, create_string_buffer

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # Linux; Python does not name them
# BPF: return 0, so that the kernel acknowledges nothing
_DROP = create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_FILTER = struct.pack("HP", 1, addressof(_DROP))

BRIEFLY = {  # what the URL of a PostgreSQL may say, so that a test does not wait for as long as a node
    "connect_timeout": "2",
    "tcp_user_timeout": "1000",
    "keepalives_idle": "1",
    "keepalives_interval": "1",
}


class VanishingHost:
    """Forwards connections from `port` until it vanishes; then for its peers it is as if nobody was there."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._gone = threading.Event()
        self._sockets = ExitStack()
        self._listening = self._sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._connections: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def vanish(self) -> None:
        """Without a word to those who are connected."""
        self._gone.set()
        for each in (self._listening, *self._connections):
            each.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _FILTER)

    def be_replaced(self) -> None:
        """By one that takes connections; those before stay silent."""
        self._connections.clear()
        self._gone = threading.Event()
        self._listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def close(self) -> None:
        """And all that went through it."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._sockets.close()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
            except OSError:
                return
            theirs = socket.create_connection(("127.0.0.1", self._to_port))
            for each in (ours, theirs):
                self._sockets.enter_context(each)
            self._connections.append(ours)
            for way in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=_forward, args=(*way, self._gone), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket, gone: threading.Event) -> None:
    with suppress(OSError):
        while (sent := source.recv(65536)) and not gone.is_set():
            sink.sendall(sent)
        if not gone.is_set():
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def vanishing_host(to_port: int) -> Iterator[VanishingHost]:
    """One that is there as long as the block."""
    host = VanishingHost(to_port)
    try:
        yield host
    finally:
        host.close()
