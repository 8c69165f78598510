"""The HTTP side of the node: /metrics, /livez, /readyz, /api/jobs, /api/jobs/{id}, /api/destinations. Reads only."""

import socket
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ichnode.domain.job import JobState
from ichnode.errors import ConfigError
from ichnode.metrics import Metrics
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.outbox import Outbox
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.web.destinations import list_of_destinations
from ichnode.web.guard import Credentials, Guard
from ichnode.web.jobs import list_of_jobs, one_job

_NOT_ASKED_FOR = Credentials()
_MOST_AT_ONCE = 100  # connections; one more is answered 503


def create_app(
    *,
    history: History,
    outbox: Outbox,
    intake: Intake,
    refused_classes: RefusedClasses,
    destinations: Collection[str],
    metrics: Metrics,
    readiness: Callable[[], Mapping[str, str]],
    credentials: Credentials = _NOT_ASKED_FOR,
    tls: bool = False,
) -> Starlette:
    """The application. `readiness` gives each part's trouble, "" where there is none."""

    def metrics_page(_: Request) -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    def livez(_: Request) -> Response:
        return PlainTextResponse("ok")

    def readyz(_: Request) -> Response:
        parts = readiness()
        ready = not any(parts.values())
        return JSONResponse({part: trouble or "ok" for part, trouble in parts.items()}, 200 if ready else 503)

    def jobs(request: Request) -> Response:
        wanted = request.query_params.get("state")
        if wanted is not None and wanted not in set(JobState):
            return JSONResponse({"error": f"unknown state; known: {', '.join(JobState)}"}, 400)
        return JSONResponse(list_of_jobs(history, state=JobState(wanted) if wanted else None))

    def job(request: Request) -> Response:
        found = one_job(history, outbox, intake, request.path_params["id"])
        return JSONResponse(found) if found else JSONResponse({"error": "no such job"}, 404)

    def destinations_page(_: Request) -> Response:
        return JSONResponse(list_of_destinations(destinations, outbox, refused_classes))

    return Starlette(
        routes=[
            Route("/metrics", metrics_page),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/api/jobs", jobs),
            Route("/api/jobs/{id:int}", job),
            Route("/api/destinations", destinations_page),
        ],
        middleware=[Middleware(Guard, credentials=credentials, tls=tls)],
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
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as problem:
        listening.close()
        raise ConfigError((f"web.port: cannot listen on {host}:{port}: {problem.strerror}",)) from None
    return listening
