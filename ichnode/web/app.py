"""The HTTP side of the node: /metrics, /livez, /readyz, /api/jobs, /api/jobs/{id}, /api/destinations. Reads only."""

from collections.abc import Callable, Collection, Mapping

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ichnode.domain.job import JobState
from ichnode.metrics import Metrics
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.outbox import Outbox
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.web.destinations import list_of_destinations
from ichnode.web.guard import Credentials, Guard
from ichnode.web.jobs import list_of_jobs, one_job

_NOT_ASKED_FOR = Credentials()


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

    async def livez(_: Request) -> Response:  # which waits for no thread
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
