"""The health page: parts, queues, device, disk, destinations, certificates and sources; and calls to destinations."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ichnode.domain.job import ON_THE_WAY
from ichnode.errors import ConfigError, DeliveryError
from ichnode.web.destinations import list_of_destinations
from ichnode.web.gpu import gpus
from ichnode.web.pages import Pages
from ichnode.web.parts import WebParts

log = logging.getLogger(__name__)

_SOON_DAYS = 21  # as `ichnode doctor` and the alert rules of deploy/ say it
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What came of calling a destination."""

    at: float
    said: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A file with certificates, by the first that expires."""

    key: str
    file: str
    expires_at: float | None
    days: float | None

    @property
    def tone(self) -> str:
        """Whether somebody should renew it."""
        return "bad" if self.days is None or self.days < 0 else "warn" if self.days < _SOON_DAYS else "good"


def health_routes(parts: WebParts, pages: Pages) -> list[Route]:
    """/health, and POST /destinations/{name}/echo and retry."""
    called: dict[str, Called] = {}
    one_at_a_time: dict[str, Lock] = {}  # of each destination: who waited for it would hold a thread of the pages

    def health(request: Request) -> Response:
        destinations = list_of_destinations(parts.destinations, parts.outbox, parts.overview, parts.refused_classes)
        heard = dict(parts.history.last_heard())
        return pages.html(
            request,
            "health.html",
            parts=parts.readiness(),
            started=parts.overview.last_start(),
            counts=parts.history.count_by_state(),
            waits=parts.history.longest_in_state(),
            on_the_way=ON_THE_WAY,
            now=parts.clock(),
            device=parts.device,
            gpus=gpus(),
            inferences=list(_inferences(parts)),
            disk={
                "folder": parts.store.folder.parent,
                "free_gb": parts.store.free_bytes() / 1e9,
                "reserve_gb": parts.store.reserve_bytes() / 1e9,
                "trouble": parts.store.trouble(),
                "low": parts.store.refuses_associations,
                "stored_gb": parts.overview.stored_bytes() / 1e9,
            },
            destinations=[(row, parts.destinations[row["name"]], called.get(row["name"])) for row in destinations],
            certificates=list(_certificates(parts)),
            sources=[(title, heard.get(title)) for title in dict.fromkeys([*parts.sources, *sorted(heard)])],
            configured=frozenset(parts.sources),
        )

    def echo(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in parts.destinations:
            raise HTTPException(404)
        lock = one_at_a_time.setdefault(name, Lock())
        if not lock.acquire(blocking=False):
            return pages.said(request, f"{name}: is being called already", ok=False, back="/health")
        try:
            said, ok = parts.call(name), True
        except (DeliveryError, ConfigError) as problem:
            said, ok = str(problem), False
        finally:
            lock.release()
        called[name] = Called(at=parts.clock(), said=said, ok=ok)
        return pages.said(request, f"{name}: {said}", ok=ok, back="/health")

    def retry(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in parts.destinations:
            raise HTTPException(404)
        due = parts.outbox.try_now(name, at=parts.clock(), who=f"web: {request.state.reader}")
        log.info("asked_by_hand", extra={"destination": name, "detail": "retry", "count": due})
        parts.wake()
        said = f"{name} is tried now: {due} waiting." if due else f"Nothing was changed: nothing waits for {name}."
        return pages.said(request, said, ok=bool(due), back="/health")

    return [
        Route("/health", health),
        Route("/destinations/{name:path}/retry", retry, methods=["POST"]),
        Route("/destinations/{name:path}/echo", echo, methods=["POST"]),
    ]


def _certificates(parts: WebParts) -> Iterator[Certificate]:
    for key, (file, at) in parts.certificates().items():
        days = None if at is None else (at - parts.clock()) / _DAY_S
        yield Certificate(key=key, file=str(file), expires_at=at, days=days)


def _inferences(parts: WebParts) -> Iterator[tuple[str, str, int, float]]:
    """Model, device, how often since the start, and the mean in seconds, as the metric has them."""
    numbers: dict[tuple[str, str], dict[str, float]] = {}
    for family in parts.metrics.inference_seconds.collect():
        for sample in family.samples:
            kind = sample.name.rpartition("_")[2]
            if kind in ("count", "sum"):
                numbers.setdefault((sample.labels["model"], sample.labels["device"]), {})[kind] = sample.value
    for (model, device), of in numbers.items():
        if of["count"]:
            yield model, device, int(of["count"]), of["sum"] / of["count"]
