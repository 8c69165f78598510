"""The guard of the HTTP side: who may read and act, and what every answer carries. It stands before every route.

Nothing is changed by GET. POST comes from this node's own pages or not at all: the browser says so by Sec-Fetch-Site or
Origin, which no page can forge (CSRF), and who says neither is refused. A program can say it, so that the bearer token,
which is for programs that read, never acts: people act, by name and password or from this machine. Without credentials
the node answers this machine alone, and only under its own names: a page that rebinds a name of its own to 127.0.0.1
gets nothing.
"""

import base64
import logging
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ichnode.errors import ConfigError
from ichnode.secret_files import read_secret

log = logging.getLogger(__name__)

PROBES = frozenset({"/livez", "/readyz"})  # for everybody: they say what works, and nothing of patients
_READING = frozenset({"GET", "HEAD"})
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_UNLESS_SAID = {"Cache-Control": "no-store"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with less, browsers hide the Origin of a form
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a reader must show; either is enough. Without any, nothing is asked for."""

    token: str | None = None  # Authorization: Bearer; reads alone
    username: str = ""
    password: str | None = None  # Authorization: Basic

    @classmethod
    def read(cls, *, token_file: Path | None, username: str | None, password_file: Path | None) -> "Credentials":
        """Those in files. Raises ConfigError for a file that holds none."""
        return cls(
            token=_secret("token_file", token_file) if token_file else None,
            username=username or "",
            password=_secret("password_file", password_file) if password_file else None,
        )

    @property
    def are_asked_for(self) -> bool:
        """Whether there are any."""
        return self.token is not None or self.password is not None

    def reader(self, authorization: str) -> str:
        """Who shows one of them in the value of the header: the name, or "token"; "" for nobody."""
        scheme, shown = _scheme(authorization), authorization.partition(" ")[2]
        if scheme == "bearer" and self.token is not None:
            return "token" if _same(shown, self.token) else ""
        if scheme == "basic" and self.password is not None:
            try:
                pair = base64.b64decode(shown, validate=True).decode("utf-8")
            except ValueError:  # no base64, or no text
                return ""
            return self.username if _same(pair, f"{self.username}:{self.password}") else ""
        return ""


class Guard:
    """ASGI middleware. Routes find who asks in `request.state.reader`."""

    def __init__(self, app: ASGIApp, *, credentials: Credentials, tls: bool) -> None:
        self._app, self._credentials = app, credentials
        self._headers = _HEADERS | (_ONLY_TLS if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = gone = False

        async def receive_until_gone() -> Message:
            nonlocal gone
            message = await receive()
            gone = message["type"] == "http.disconnect"
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                for name, value in _UNLESS_SAID.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        try:
            await (refusal or self._app)(scope, receive_until_gone, send_with_headers)
        except Exception:
            if gone:  # nobody waits for an answer, and a body that breaks off is no fault of ours
                return
            log.exception("answer_failed", extra={"detail": scope["path"]})
            if started:
                raise
            failed = PlainTextResponse("that failed; the log of ichnode says where", 500)
            await failed(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        """Why not, if so; otherwise the scope knows the reader."""
        if scope["method"] not in {*_READING, "POST"}:
            return PlainTextResponse("only GET, HEAD and POST are served", 405, {"Allow": "GET, HEAD, POST"})
        if scope["path"] in PROBES and scope["method"] in _READING:
            return None
        peer = (scope.get("client") or ("",))[0]
        if not self._credentials.are_asked_for:
            is_ours = headers.get("host", "").rpartition(":")[0] in _LOCAL_NAMES or headers.get("host") in _LOCAL_NAMES
            if not is_ours:
                return PlainTextResponse("not a name of this node", 400)
            reader = "anybody"
        else:
            reader = self._credentials.reader(headers.get("authorization", ""))
            if not reader:
                log.warning("reader_refused", extra={"peer": peer, "detail": scope["path"]})
                asked = "Basic" if self._credentials.password is not None else "Bearer"
                return PlainTextResponse("who are you?", 401, {"WWW-Authenticate": f'{asked} realm="ichnode"'})
        if scope["method"] == "POST" and (why_not := self._why_not_act(headers)):
            log.warning("post_refused", extra={"peer": peer, "detail": scope["path"]})
            return PlainTextResponse(why_not, 403)
        scope.setdefault("state", {})["reader"] = f"{reader} at {peer}"
        return None

    def _why_not_act(self, headers: Headers) -> str:
        """Of somebody who may read; "" where nothing is against it."""
        if self._credentials.are_asked_for and _scheme(headers.get("authorization", "")) == "bearer":
            return "the token is for reading alone; what people do, they do with the name and password"
        return "" if _is_from_our_own_page(headers) else "only the pages of this node may ask for that"


def _scheme(authorization: str) -> str:
    return authorization.partition(" ")[0].lower()


def _is_from_our_own_page(headers: Headers) -> bool:
    """What the browser says of the page that sends a request; a page cannot set these headers."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is not None and urlsplit(origin).netloc == headers.get("host")


def _secret(key: str, file: Path) -> str:
    try:
        return read_secret(file)
    except (OSError, ValueError) as problem:
        raise ConfigError((f"web.{key}: {file}: {getattr(problem, 'strerror', None) or problem}",)) from None


def _same(shown: str, wanted: str) -> bool:
    return compare_digest(shown.encode(), wanted.encode())
