"""The thread that listens for HTTP and serves the application; whoever is silent or slow is closed.

A whole request must come within `REQUEST_S` of the connection (over TLS: of the handshake, which has as long). Its
answer must be written within `ANSWER_S`, and be taken, and the next whole request come, within `REQUEST_S` of that. No
request is refused because there are many, or probes were refused, too: of more than `MOST_OPEN` connections the oldest
of the address that has most is closed.
"""

import asyncio
import socket
import ssl
import threading
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ichnode.errors import ConfigError

REQUEST_S = 10.0
ANSWER_S = 30.0
MOST_OPEN = 256
_GOODBYE_S = 2.0  # for the peer to end TLS as well


class WebServer:
    """Serves an application from a thread of its own."""

    def __init__(
        self,
        app: Any,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        request_s: float = REQUEST_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        """Listen; `start` answers. Raises ConfigError when the address cannot be had."""
        self._door = _listen(host, port)
        config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False, ws="none")
        self._server = _Server(config, door=self._door, tls=tls, request_s=request_s, answer_s=answer_s)
        # without sockets of its own uvicorn opens none; see _Server.startup
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": []}, name="web", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._door.getsockname()[1])

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the open answers."""
        self._server.should_exit = True
        self._thread.join(5)


class _Door(socket.socket):
    """Where connections come in. Of too many, one is closed for each that comes."""

    def __init__(self, family: int) -> None:
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: TCP_NODELAY only if said so
        self._let_in: list[tuple[str, socket.socket]] = []  # the oldest first

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        connection, address = super().accept()
        self._let_in = [(peer, other) for peer, other in self._let_in if other.fileno() != -1]
        self._let_in.append((str(address[0]), connection))
        if len(self._let_in) > MOST_OPEN:
            self._make_room()
        return connection, address

    def _make_room(self) -> None:
        """Close the oldest connection of the address that has most; whoever serves it sees that it has ended."""
        ((crowd, _),) = Counter(peer for peer, _ in self._let_in).most_common(1)
        place = next(place for place, (peer, _) in enumerate(self._let_in) if peer == crowd)
        _, oldest = self._let_in.pop(place)
        with suppress(OSError):  # it has ended already
            oldest.shutdown(socket.SHUT_RDWR)


class _Server(uvicorn.Server):
    """uvicorn's, but for the deadline of TLS handshakes, which it leaves at 60 s, and for the protocol."""

    def __init__(
        self, config: uvicorn.Config, *, door: _Door, tls: ssl.SSLContext | None, request_s: float, answer_s: float
    ) -> None:
        super().__init__(config)
        self._door, self._tls, self._request_s, self._answer_s = door, tls, request_s, answer_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve at the door, too."""
        await super().startup(sockets)
        protocol = partial(
            _HurriedProtocol,
            self.config,
            self.server_state,
            self.lifespan.state,
            request_s=self._request_s,
            answer_s=self._answer_s,
        )
        listening = await asyncio.get_running_loop().create_server(
            protocol,
            sock=self._door,
            backlog=self.config.backlog,
            ssl=self._tls,
            ssl_handshake_timeout=self._request_s if self._tls else None,
            ssl_shutdown_timeout=_GOODBYE_S if self._tls else None,
        )
        self.servers.append(listening)


class _HurriedProtocol(H11Protocol):
    """HTTP/1.1 on one connection, with a deadline for what comes next: a request, or its answer."""

    def __init__(self, *uvicorns: Any, request_s: float, answer_s: float) -> None:
        super().__init__(*uvicorns)
        self._request_s, self._answer_s = request_s, answer_s
        self._has_asked = True  # so that the first look starts the first deadline
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is open."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """The answer is on its way."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Start the next deadline where a request has become whole, or has been answered."""
        cycle = self.cycle  # of the last request whose headers have come
        has_asked = cycle is not None and not cycle.more_body and not cycle.response_complete
        if has_asked is not self._has_asked:
            self._has_asked = has_asked
            if self._deadline:
                self._deadline.cancel()
            patience = self._answer_s if has_asked else self._request_s
            self._deadline = self.loop.call_later(patience, self.transport.abort)


def _listen(host: str, port: int) -> _Door:
    """A listening socket; uvicorn's own way ends the process without a word when the address is taken."""
    door = _Door(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen()
    except OSError as problem:
        door.close()
        raise ConfigError((f"web.port: cannot listen on {host}:{port}: {problem.strerror}",)) from None
    return door
