"""The HTTP side of the node: pages for people, and what machines read. The routes are in the files beside this one."""

import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware

from ichnode.errors import ConfigError
from ichnode.web.actions import action_routes
from ichnode.web.api import api_routes
from ichnode.web.guard import Guard
from ichnode.web.health_page import health_routes
from ichnode.web.live import live_route
from ichnode.web.pages import Pages, static_route
from ichnode.web.parts import WebParts
from ichnode.web.review import review_routes
from ichnode.web.rules_page import rules_routes
from ichnode.web.worklist import worklist_routes

_MOST_AT_ONCE = 100  # connections; one more is answered 503


def create_app(parts: WebParts) -> Starlette:
    """The application."""
    pages = Pages(parts)
    return Starlette(
        routes=[
            *worklist_routes(parts, pages),
            *action_routes(parts, pages),
            *rules_routes(parts, pages),
            *health_routes(parts, pages),
            *review_routes(parts, pages),
            live_route(parts),
            *api_routes(parts),
            static_route(),
        ],
        middleware=[Middleware(Guard, credentials=parts.credentials, tls=parts.tls)],
        exception_handlers={404: pages.not_found, SQLAlchemyError: pages.no_ledger},
    )


class WebServer:
    """Serves an application from a thread of its own."""

    def __init__(
        self, app: Any, *, host: str, port: int, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        """Listen; `start` answers, by TLS with a certificate. Raises ConfigError when the address cannot be had."""
        self._socket = _listen(host, port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="critical",
                access_log=False,
                server_header=False,
                limit_concurrency=_MOST_AT_ONCE,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

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


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; uvicorn's own way ends the process without a word when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: TCP_NODELAY only if said so
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as problem:
        listening.close()
        raise ConfigError((f"web.port: cannot listen on {host}:{port}: {problem.strerror}",)) from None
    return listening
