"""What machines read: /metrics, /livez, /readyz, and JSON below /api."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ichnode.domain.job import JobState
from ichnode.web.destinations import list_of_destinations
from ichnode.web.jobs import list_of_jobs, one_job
from ichnode.web.parts import WebParts


def api_routes(parts: WebParts) -> list[Route]:
    """The routes, all of them GET."""

    def metrics_page(_: Request) -> Response:
        return Response(parts.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    async def livez(_: Request) -> Response:  # which waits for no thread
        return PlainTextResponse("ok")

    def readyz(_: Request) -> Response:
        said = parts.readiness()
        ready = not any(said.values())
        return JSONResponse({part: trouble or "ok" for part, trouble in said.items()}, 200 if ready else 503)

    def jobs(request: Request) -> Response:
        wanted = request.query_params.get("state")
        if wanted is not None and wanted not in set(JobState):
            return JSONResponse({"error": f"unknown state; known: {', '.join(JobState)}"}, 400)
        return JSONResponse(list_of_jobs(parts.history, state=JobState(wanted) if wanted else None))

    def job(request: Request) -> Response:
        job_id, masked = request.path_params["id"], not parts.patients_shown
        found = one_job(parts.history, parts.outbox, parts.intake, job_id, masked=masked)
        return JSONResponse(found) if found else JSONResponse({"error": "no such job"}, 404)

    def destinations(_: Request) -> Response:
        return JSONResponse(
            list_of_destinations(parts.destinations, parts.outbox, parts.overview, parts.refused_classes)
        )

    return [
        Route("/metrics", metrics_page),
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/api/jobs", jobs),
        Route("/api/jobs/{id:number}", job),
        Route("/api/destinations", destinations),
    ]
