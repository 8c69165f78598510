"""What people do to jobs and destinations. POST alone, which the guard lets through from our own pages only.

Each change is made and audited by the ledger in one transaction, under the name of who asked for it.
"""

import logging
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ichnode.domain.job import Job
from ichnode.imaging.data_set import PYDICOM_ERRORS
from ichnode.web.pages import Pages, form
from ichnode.web.parts import WebParts

log = logging.getLogger(__name__)

_ELSE = "or its images were purged, or a later job of the series took its place, or that was done before"
_Act = Callable[[Job, str, str], str | None]  # job, who, rule -> what was done; None: nothing


def action_routes(parts: WebParts, pages: Pages) -> list[Route]:
    """/jobs/{id}/retry, drop, stat and rerun."""

    def retry(job: Job, who: str, _: str) -> str | None:
        state = parts.ledger.retry(job.id, at=parts.clock(), who=who)
        return state and f"Job {job.id} is {state} again."

    def drop(job: Job, who: str, _: str) -> str | None:
        return f"Job {job.id} is dropped." if parts.ledger.drop(job.id, at=parts.clock(), who=who) else None

    def stat(job: Job, who: str, _: str) -> str | None:
        return f"Job {job.id} is STAT." if parts.ledger.raise_to_stat(job.id, at=parts.clock(), who=who) else None

    def rerun(job: Job, who: str, rule: str) -> str | None:
        try:
            plan = parts.plan(job, rule)
        except (OSError, *PYDICOM_ERRORS) as problem:
            detail = getattr(problem, "strerror", None) or type(problem).__name__
            log.warning("not_run_again", extra={"job_id": job.id, "detail": detail})
            return None
        new = plan and parts.ledger.run_again(job.id, plan, at=parts.clock(), who=who)
        return f"Job {new} analyses the series under rule {rule}." if new else None

    def route(name: str, act: _Act) -> Route:
        async def handle(request: Request) -> Response:
            rule = (await form(request)).get("rule", "")
            return await run_in_threadpool(answer, request, rule)

        def answer(request: Request, rule: str) -> Response:
            job = parts.history.job(request.path_params["id"])
            if job is None:
                raise HTTPException(404)
            who = f"web: {request.state.reader}"
            done = act(job, who, rule)
            log.info("asked_by_hand", extra={"job_id": job.id, "detail": name, "state": "done" if done else "refused"})
            parts.wake()
            refused = f"Nothing was changed: job {job.id} is {job.state}, {_ELSE}."
            return pages.said(request, done or refused, ok=bool(done), back=f"/studies/{job.study_instance_uid}")

        return Route(f"/jobs/{{id:number}}/{name}", handle, methods=["POST"])

    return [route(name, act) for name, act in (("retry", retry), ("drop", drop), ("stat", stat), ("rerun", rerun))]
