"""Judging results: the form, and what was judged so far. A fragment for htmx, and a whole page for everybody else.

htmx shows answers of success alone, so that it gets 200 where a browser gets 409 or 422.
"""

from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ichnode.domain.job import Job
from ichnode.domain.judgement import (
    MOST_CHARACTERS,
    MOST_ML,
    NOTE_ROLE,
    REASON_WORDS,
    BadOpinion,
    Judgement,
    read_opinion,
)
from ichnode.errors import NothingToJudge
from ichnode.results.read_back import any_header
from ichnode.storage.outbox import Delivery
from ichnode.web.pages import Pages, form
from ichnode.web.parts import WebParts


def judgement_routes(parts: WebParts, pages: Pages) -> list[Route]:
    """/jobs/{id}/judgement."""
    withdrawing = frozenset(rule.name for rule in parts.rules if rule.withdraw_rejected)

    def show(request: Request) -> Response:
        return answer(request, request.path_params["id"])

    async def judge(request: Request) -> Response:
        return await run_in_threadpool(record, request, await form(request))

    def record(request: Request, said: Mapping[str, str]) -> Response:
        job_id, who = request.path_params["id"], f"web: {request.state.reader}"
        try:
            job, opinion = parts.judgements.judgeable(job_id), read_opinion(said)
            parts.judgements.record(job_id, opinion, who=who, at=parts.clock(), withdraw=job.rule in withdrawing)
        except BadOpinion as bad:
            return answer(request, job_id, said=said, problems=bad.problems)
        except NothingToJudge:
            return answer(request, job_id)
        if _is_fragment(request):
            changed = answer(request, job_id, saved=True)
            changed.headers["HX-Trigger"] = "changed"
            return changed
        return RedirectResponse(request.url.path, 303)

    def answer(
        request: Request,
        job_id: int,
        *,
        said: Mapping[str, str] | None = None,
        problems: Mapping[str, str] | None = None,
        saved: bool = False,
    ) -> Response:
        context: dict[str, Any] = {"job_id": job_id, "job": None, "refusal": ""}
        status = 422 if problems else 200
        try:
            job = parts.judgements.judgeable(job_id)
            judged = parts.judgements.of_job(job_id)
            deliveries = parts.outbox.of_job(job_id)
            context |= {
                "job": job,
                "predicted_ml": _volume_ml(job),
                "judgements": judged[::-1],
                "notes": [delivery for delivery in deliveries if delivery.role == NOTE_ROLE],
                "withdrawal": _withdrawal(judged, deliveries),
                "effect": _effect(parts, job, withdraws=job.rule in withdrawing, judged=judged),
            }
        except NothingToJudge as why:
            context["refusal"], status = str(why), 404 if parts.history.job(job_id) is None else 409
        context |= {"said": said or {}, "problems": problems or {}, "saved": saved}
        context |= {"reasons": REASON_WORDS, "most_characters": MOST_CHARACTERS, "most_ml": MOST_ML}
        if _is_fragment(request):
            return pages.html(request, "judgement.html", **context)
        return pages.html(request, "judgement_page.html", status=status, **context)

    path = "/jobs/{id:number}/judgement"
    return [Route(path, show, methods=["GET"]), Route(path, judge, methods=["POST"])]


def _is_fragment(request: Request) -> bool:
    return "hx-request" in request.headers


def _volume_ml(job: Job) -> float | None:
    """As the model measured it; 0 where it found nothing, None where the findings do not say."""
    findings = job.findings or {}
    hematoma = findings.get("hematoma", {})
    return 0.0 if hematoma is None else hematoma.get("volume_ml")


def _effect(parts: WebParts, job: Job, *, withdraws: bool, judged: list[Judgement]) -> str:
    """What a rejection would do now."""
    if any(judgement.withdraws for judgement in judged):
        return "These results are withdrawn already. Whatever is judged now is noted, and changes nothing in the PACS."
    if not withdraws:
        rule = f"rule {job.rule}" if job.rule else "its rule"
        return f"Rejecting is noted here and changes nothing in the PACS: {rule} does not withdraw what is rejected."
    if parts.history.purge(job):
        return "Rejecting is noted here and changes nothing in the PACS: the files of these results were removed here."
    names = ", ".join(job.send_to) or "no destination"
    return (
        f"Rejecting withdraws these results: a rejection note goes to where they went ({names}), and what was not sent"
        " yet is not sent. Accepting them later does not bring them back; running the series again under another rule"
        " makes new ones."
    )


def _withdrawal(judged: list[Judgement], deliveries: list[Delivery]) -> str:
    """What became of the withdrawal so far, where there are no notes to tell it."""
    if not any(j.withdraws for j in judged) or any(delivery.role == NOTE_ROLE for delivery in deliveries):
        return ""
    taken: dict[str, list[str]] = {}
    for delivery in deliveries:
        if delivery.state in ("sent", "delivered"):
            taken.setdefault(delivery.destination, []).append(delivery.file)
    if not taken:
        return "No destination had taken any of these results, so that none gets a rejection note."
    if any(any_header(files) is None for files in taken.values()):  # which the note is made from
        return (
            "No rejection note can be made, for none of the files of these results can be read on this node. Remove the"
            f" results by hand at {', '.join(taken)}. When the files are back, the note is made within minutes."
        )
    return "The rejection note is being made."
