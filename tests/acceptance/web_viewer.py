"""What web viewers in a test have in common: an origin that serves them beside a DICOMweb server, and a browser."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread

import httpx
import uvicorn
from playwright.sync_api import Page, sync_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from tests.acceptance.peers import program

_FLAGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-accelerated-2d-canvas",  # which, by the three above, shows again what was wiped off: every second time
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def viewer_server(file_at: Callable[[str], Path], dicomweb_url: str) -> Iterator[str]:
    """A viewer, whose files `file_at` finds by their path in the URL, on a loopback port; gives its URL.

    Under /dicom-web everything is passed to the DICOMweb server at `dicomweb_url`.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    app = _app(file_at, dicomweb_url)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _app(file_at: Callable[[str], Path], dicomweb_url: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # a connection kept for later may be closed by the server just as it is used again
        async with httpx.AsyncClient(
            trust_env=False, timeout=120, limits=httpx.Limits(max_keepalive_connections=0)
        ) as client:
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
        return FileResponse(file_at(request.path_params["path"]))

    routes = [Route("/dicom-web/{path:path}", dicomweb, methods=["GET", "POST"]), Route("/{path:path}", viewer)]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, _isolated)], lifespan=lifespan)


async def _isolated(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Cross-origin isolation, which OHIF's shared memory between workers needs."""
    answer = await call_next(request)
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
    return answer


@contextmanager
def chromium_page(*, timeout_s: float = 60) -> Iterator[Page]:
    """A page of headless Chromium with software rendering; each wait in it lasts at most `timeout_s`."""
    chromium = program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800}, device_scale_factor=1, service_workers="block")
        page.set_default_timeout(timeout_s * 1000)
        yield page
        browser.close()
