"""Live pages: server-sent events that say "something changed"; the page then asks for itself again."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count
from threading import Lock

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ichnode.web.parts import WebParts

_EVERY_S = 1.0
_TURNS = 20  # then the answer ends before `web.server` calls it too long, and the browser asks again
_AGAIN_MS = 500
_UNBUFFERED = {"X-Accel-Buffering": "no"}  # by nginx in front
_MOST = 30  # listeners, each of whom holds a connection; one more asks again every minute by itself


class _Mark:
    """The state of the ledger in a word, read once a second however many listen."""

    def __init__(self, parts: WebParts) -> None:
        self._parts, self._lock = parts, Lock()
        self._at, self._word = 0.0, ""

    def word(self) -> str:
        with self._lock:
            if time.monotonic() - self._at >= _EVERY_S / 2:
                self._word, self._at = "-".join(map(str, self._parts.work_list.mark())), time.monotonic()
            return self._word


def live_route(parts: WebParts) -> Route:
    """/events."""
    mark = _Mark(parts)
    listeners: set[int] = set()
    numbers = count()

    async def changes(request: Request) -> AsyncIterator[str]:
        number = next(numbers)
        listeners.add(number)
        try:
            seen = request.headers.get("last-event-id")
            yield f"retry: {_AGAIN_MS}\n\n"
            for _ in range(_TURNS):
                if parts.stopping() or await request.is_disconnected():
                    return
                try:
                    word = await run_in_threadpool(mark.word)
                except SQLAlchemyError:  # the browser asks again, and is told by `events`
                    return
                if word != seen:
                    yield f"id: {word}\nevent: {'changed' if seen is not None else 'begin'}\ndata: {word}\n\n"
                seen = word
                await asyncio.sleep(_EVERY_S)
        finally:
            listeners.discard(number)

    async def events(request: Request) -> Response:
        if len(listeners) >= _MOST:
            return PlainTextResponse("too many listen", 503)
        await run_in_threadpool(mark.word)  # raises SQLAlchemyError, which `pages.no_ledger` answers by 503
        return StreamingResponse(changes(request), media_type="text/event-stream", headers=_UNBUFFERED)

    return Route("/events", events)
