"""Pages: Jinja templates turned into HTML, with the filters that every template may use, and the static files.

Everything is escaped. A page loads nothing but files of this node, and these are named with a hash of their content, so
that a browser may keep them until they change.
"""

import hashlib
import logging
import re
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from ichnode.domain.spans import span
from ichnode.web.parts import WebParts
from ichnode.web.patient import Patients

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}
_LONGEST_FORM = 100_000  # bytes
_MOST_FIELDS = 100


class _Number(IntegerConvertor):
    """{id:number} in a route: as many digits as every database and int() take; more of them are not found."""

    regex = "[0-9]{1,18}"


register_url_convertor("number", _Number())


def number_of(text: str) -> int | None:
    """What {id:number} would take.

    >>> number_of("12"), number_of("x"), number_of("9" * 19)
    (12, None, None)
    """
    return int(text) if re.fullmatch(_Number.regex, text) else None


class Pages:
    """The templates of a node, and the patients that they name."""

    def __init__(self, parts: WebParts) -> None:
        self.patients = Patients(shown=parts.patients_shown)
        self._templates = _templates()
        self._node = {"ae_title": parts.ae_title, "version": parts.version}

    def html(self, request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
        """The filled-in template; the node, `path` and `reader` are there for every one."""
        context |= self._node | {"path": request.url.path, "reader": getattr(request.state, "reader", "")}
        return HTMLResponse(self._templates.get_template(template).render(context), status)

    def said(self, request: Request, said: str, *, ok: bool, back: str) -> Response:
        """What became of an action: a line for the page that asked by htmx, which then looks again, else a page."""
        fragment = "said.html" if request.headers.get("hx-request") else "message.html"
        answer = self.html(request, fragment, status=200 if ok else 409, said=said, ok=ok, back=back)
        answer.headers["HX-Trigger"] = "changed"
        return answer

    def not_found(self, request: Request, _: Exception) -> Response:
        """What browsers see of a page that is not there; programs get a word."""
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("not found", 404)
        return self.html(request, "message.html", status=404, said="There is no such page, study or job.", back="/")

    def no_ledger(self, request: Request, problem: Exception) -> Response:
        """The database is locked, damaged or away; /readyz says more."""
        log.error("ledger_not_read", extra={"detail": f"{request.url.path}: {type(problem).__name__}"})
        said = "The database cannot be read now."
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(said, 503)
        return self.html(request, "message.html", status=503, said=said, back=request.url.path)


async def form(request: Request) -> dict[str, str]:
    """The fields of a form, each with its last value; raises HTTPException (413) for more than a form has."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413)
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise HTTPException(413) from None


def static_route() -> Route:
    """The files beside the templates."""
    names = frozenset(file.name for file in _STATIC.iterdir() if file.suffix in (".css", ".js", ".svg"))

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        return FileResponse(_STATIC / name, headers=_KEPT) if name in names else PlainTextResponse("no such file", 404)

    return Route("/static/{name}", static)


def clock(at: float | None) -> str:
    """A time of today as the clock shows it, any other with its date; local time.

    >>> clock(None)
    '-'
    """
    if at is None:
        return "-"
    then = time.localtime(at)
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def ago(at: float | None) -> str:
    """How long ago, in the largest unit that makes sense.

    >>> ago(None)
    'never'
    """
    if at is None:
        return "never"
    return f"{span(max(0.0, time.time() - at))} ago"


def ahead(at: float) -> str:
    """How soon it comes, in the same units.

    >>> ahead(0)
    'now'
    """
    left_s = at - time.time()
    return f"in {span(left_s)}" if left_s > 0 else "now"


def number(value: float | None, digits: int = 1) -> str:
    """A number with a fixed count of decimals; a dash where there is none.

    >>> number(12.345), number(None)
    ('12.3', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def seconds(value: float) -> str:
    """A duration: tenths below ten seconds, minutes from two on.

    >>> seconds(2.34), seconds(14.2), seconds(331.9)
    ('2.3 s', '14 s', '5 min 31 s')
    """
    if value >= 120:
        return f"{int(value) // 60} min {int(value) % 60} s"
    return f"{value:.{1 if value < 10 else 0}f} s"


def words(name: str) -> str:
    """A name of the code as people read it.

    >>> words("bone_kernel")
    'bone kernel'
    """
    return str(name).replace("_", " ").strip()


def short_uid(uid: str) -> str:
    """The end of a long UID, which tells it from its neighbours.

    >>> short_uid("1.2.826.0.1.3680043.8.498.1234567890123456789")
    '…567890123456789'
    """
    return uid if len(uid) <= 20 else f"…{uid[-15:]}"


@cache
def _templates() -> Environment:
    """All of them, compiled when the first node of a process starts: nobody's first click waits for that."""
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(static=lambda name: f"/static/{name}?{_sha256(name)}")
    environment.filters.update(
        clock=clock, ago=ago, ahead=ahead, number=number, seconds=seconds, words=words, short_uid=short_uid
    )
    for name in environment.list_templates():
        environment.get_template(name)
    return environment


def _sha256(name: str) -> str:
    return hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
