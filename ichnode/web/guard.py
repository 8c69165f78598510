"""The guard of the HTTP side: who may read, and what every answer carries. It stands before every route.

Nothing is changed by GET, and nothing but GET is served, so a foreign page has nothing to forge (CSRF). Without
credentials the node answers this machine alone, and only under its own names: a page that rebinds a name of its own to
127.0.0.1 gets nothing.
"""

import base64
import logging
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ichnode.errors import ConfigError
from ichnode.secret_files import read_secret

log = logging.getLogger(__name__)

PROBES = frozenset({"/livez", "/readyz"})  # for everybody: they say what works, and nothing of patients
_METHODS = frozenset({"GET", "HEAD"})
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a reader must show; either is enough. Without any, nothing is asked for."""

    token: str | None = None  # Authorization: Bearer
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

    def admit(self, authorization: str) -> bool:
        """Whether the value of the header shows one of them."""
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.token is not None:
            return _same(shown, self.token)
        if scheme.lower() == "basic" and self.password is not None:
            try:
                pair = base64.b64decode(shown, validate=True).decode("utf-8")
            except ValueError:  # no base64, or no text
                return False
            return _same(pair, f"{self.username}:{self.password}")
        return False


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, credentials: Credentials, tls: bool) -> None:
        self._app, self._credentials = app, credentials
        self._headers = _HEADERS | (_ONLY_TLS if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        if scope["method"] not in _METHODS:
            return PlainTextResponse("only GET and HEAD are served", 405, {"Allow": "GET, HEAD"})
        if scope["path"] in PROBES:
            return None
        if not self._credentials.are_asked_for:
            is_ours = headers.get("host", "").rpartition(":")[0] in _LOCAL_NAMES or headers.get("host") in _LOCAL_NAMES
            return None if is_ours else PlainTextResponse("not a name of this node", 400)
        if self._credentials.admit(headers.get("authorization", "")):
            return None
        log.warning("reader_refused", extra={"peer": (scope.get("client") or ("",))[0], "detail": scope["path"]})
        asked = "Basic" if self._credentials.password is not None else "Bearer"
        return PlainTextResponse("who are you?", 401, {"WWW-Authenticate": f'{asked} realm="ichnode"'})


def _secret(key: str, file: Path) -> str:
    try:
        return read_secret(file)
    except (OSError, ValueError) as problem:
        raise ConfigError((f"web.{key}: {file}: {getattr(problem, 'strerror', None) or problem}",)) from None


def _same(shown: str, wanted: str) -> bool:
    return compare_digest(shown.encode(), wanted.encode())
