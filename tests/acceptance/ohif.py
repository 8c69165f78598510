"""OHIF, a real web viewer, in headless Chromium: its built files, a server for them, and what a reader does with it.

The viewer is the npm package @ohif/app, fetched once into ~/.cache/ichnode-tests (ICHNODE_OHIF_DIST names another
build). One origin serves the viewer and, under /dicom-web, passes everything to a DICOMweb server.
"""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from tests.acceptance.npm import fetched

OHIF_VERSION = "3.12.10"
_APP_CONFIG = Path(__file__).parent / "ohif" / "app-config.js"


def ohif_dist() -> Path:
    """Folder of the built viewer; fetched with npm the first time (48 MB, 200 MB unpacked)."""
    if given := os.environ.get("ICHNODE_OHIF_DIST"):
        return Path(given)
    return fetched(f"@ohif/app@{OHIF_VERSION}", "dist", f"ohif-{OHIF_VERSION}")


@contextmanager
def ohif_server(dist: Path, dicomweb_url: str) -> Iterator[str]:
    """The viewer in `dist` over the DICOMweb server at `dicomweb_url`, on a loopback port; gives its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(_app(dist, dicomweb_url), log_level="warning", timeout_graceful_shutdown=5))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _app(dist: Path, dicomweb_url: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
            app.state.client = client
            yield

    async def dicomweb(request: Request) -> Response:
        asked = {name: request.headers[name] for name in ("accept", "content-type") if name in request.headers}
        answer = await request.app.state.client.request(
            request.method,
            f"{dicomweb_url}/{request.path_params['path']}?{request.url.query}",
            content=await request.body(),
            headers=asked,
        )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    async def viewer(request: Request) -> FileResponse:
        path = request.path_params["path"]
        if path == "app-config.js":
            return FileResponse(_APP_CONFIG)
        file = (dist / path).resolve()
        return FileResponse(file if file.is_file() and file.is_relative_to(dist.resolve()) else dist / "index.html")

    routes = [Route("/dicom-web/{path:path}", dicomweb, methods=["GET", "POST"]), Route("/{path:path}", viewer)]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, _isolated)], lifespan=lifespan)


async def _isolated(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Cross-origin isolation, which the viewer's shared memory between workers needs."""
    answer = await call_next(request)
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
    return answer
