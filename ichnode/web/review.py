"""The review page of a job: its source series, what was found and predicted on it, and what became of the results.

Pictures come one slice at a time. They are not to be kept by the browser (`no-store`): reading stations are shared, and
a picture of a patient has no place on their disks. The page keeps them in memory while it is open, the node a while.
"""

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.domain.job import Job
from ichnode.errors import RefusedSeries
from ichnode.imaging.data_set import PYDICOM_ERRORS
from ichnode.results.colours import SEGMENT_RGB
from ichnode.results.provenance import Role
from ichnode.results.read_back import picture_rgb, predicted_hu
from ichnode.results.source_headers import direction_letter
from ichnode.web.pages import Pages
from ichnode.web.parts import WebParts
from ichnode.web.review_facts import facts, reports, title
from ichnode.web.shown import SALIENCY, Shelf, Shown
from ichnode.web.slices import WINDOWS, Pictures, difference_png, fill_png, gray_png, outline_png, rgb_png

log = logging.getLogger(__name__)

_JOB = "/studies/{study_instance_uid}/jobs/{id:number}"
_Made = tuple[list[str], Callable[[], bytes]]  # the files that a picture is made from, and how


def review_routes(parts: WebParts, pages: Pages) -> list[Route]:
    """The page, what lies on its slices, and the pictures."""
    shelf, kept = Shelf(parts.history, parts.intake), Pictures()
    patients, masked = pages.patients, not parts.patients_shown

    def page(request: Request) -> Response:
        job = _job(parts, request)
        if job is None:
            said = "This study has no such job on this node."
            return pages.html(request, "message.html", status=404, said=said, back="/")
        shown = shelf.shown(job)
        answer = pages.html(
            request,
            "review.html",
            viewer_link=viewer_link(parts, job),
            **facts(parts, job, shown, patients.of(shown.first.instance.file if shown.first else None)),
            **_start(shown),
        )
        if request.method == "GET":  # HEAD shows nothing
            who = f"web: {request.state.reader}"
            answer.background = BackgroundTask(_viewed, parts, job, who)  # nobody waits for it
        return answer

    def sent_reports(request: Request) -> Response:
        job = _job(parts, request)
        if job is None:
            return _nothing("this study has no such job")
        said, why_none = [], "The reports are no longer on this node."
        try:
            said = reports(shelf.shown(job), masked=masked)
        except (OSError, *PYDICOM_ERRORS) as problem:
            log.warning("report_unreadable", extra={"job_id": job.id, "detail": type(problem).__name__})
            why_none = "The reports cannot be read on this node."
        return pages.html(request, "review_reports.html", reports=said, why_none=why_none)

    def layers(request: Request) -> Response:
        job = _job(parts, request)
        return JSONResponse(_layers(shelf.shown(job))) if job else _nothing("this study has no such job")

    def picture(request: Request) -> Response:
        job = _job(parts, request)
        if job is None:
            return _nothing("this study has no such job")
        shown, name = shelf.shown(job), str(request.path_params["name"])
        if masked and name == Role.SUMMARY_PAGE:
            return _nothing("the summary page tells the accession number, and patients are masked")
        index = int(request.path_params.get("index", -1))
        try:
            made = _made(shown, name, index)
            if made is None:
                return _nothing("there is no such picture")
            files, make = made
            png = kept.get((job.id, name, index), files, make)
        except (RefusedSeries, OSError, *PYDICOM_ERRORS) as problem:
            log.warning("picture_failed", extra={"job_id": job.id, "detail": f"{name}: {type(problem).__name__}"})
            return _nothing("this picture cannot be read, or is no longer here")
        return Response(png, media_type="image/png")

    return [
        Route(_JOB, page),
        Route(f"{_JOB}/layers", layers),
        Route(f"{_JOB}/reports", sent_reports),
        Route(f"{_JOB}/slices/{{index:number}}/{{name}}.png", picture),
        Route(f"{_JOB}/{{name}}.png", picture),
    ]


def viewer_link(parts: WebParts, job: Job) -> str:
    """The study in the site's own viewer; "" where none is configured."""
    return (parts.viewer_url or "").replace("{StudyInstanceUID}", quote(job.study_instance_uid))


def _job(parts: WebParts, request: Request) -> Job | None:
    job = parts.history.job(request.path_params["id"])
    return job if job and job.study_instance_uid == request.path_params["study_instance_uid"] else None


def _viewed(parts: WebParts, job: Job, who: str) -> None:
    """Who opened the page stands in the trail; a trail that cannot be written keeps nobody from the results."""
    what = {"job": job.id, "study": pseudonym(job.study_instance_uid)}
    try:
        parts.audit.append(AuditEvent.RESULTS_VIEWED, who=who, what=what, at=parts.clock())
    except SQLAlchemyError as problem:
        log.error("view_not_audited", extra={"job_id": job.id, "detail": f"{who}: {type(problem).__name__}"})


def _nothing(said: str) -> Response:
    return PlainTextResponse(said, 404)


def _start(shown: Shown) -> dict[str, Any]:
    """What the page needs to show its first picture, and which other pictures it can ask for."""
    beside = _beside({r.role for r in shown.results})
    return {"windows": WINDOWS, "beside": beside, "start": shown.key_index(), **_geometry(shown)}


def _beside(roles: Collection[str]) -> dict[str, str]:
    """The pictures of these roles that can lie beside the source, and what they are called."""
    predicted = {"predicted": "Predicted follow-up", "difference": "Difference"}
    return (predicted if Role.PREDICTED_SERIES in roles else {}) | _called(SALIENCY, roles)


def _called(those: Collection[Role], roles: Collection[str]) -> dict[str, str]:
    return {role: title(role) for role in those if role in roles}


def _geometry(shown: Shown) -> dict[str, Any]:
    """Width to height of a pixel-true picture, the patient's directions at its edges, and where each slice lies."""
    grid = shown.grid
    if grid is None:
        return {}
    height_mm, width_mm = grid.rows * grid.pixel_spacing_mm[0], grid.columns * grid.pixel_spacing_mm[1]
    across, down = grid.row_direction_lps, grid.column_direction_lps
    edges = {"left": -across, "right": across, "top": -down, "bottom": down}
    is_enhanced = len(set(grid.sop_instance_uids)) == 1
    numbers = [one.frame_number if is_enhanced else one.header.get("InstanceNumber") for one in shown.slices]
    return {
        "aspect": round(width_mm / height_mm, 6),
        "letters": {edge: direction_letter(direction) for edge, direction in edges.items()},
        "places": [[number, round(mm, 2)] for number, mm in zip(numbers, grid.offsets_mm.tolist(), strict=True)],
    }


def _layers(shown: Shown) -> dict[str, Any]:
    """The segments and the pictures, with the indices of the slices that each lies on; and what could not be read."""
    segments = [
        {"name": name, "label": segment.label, "rgb": rgb, "slices": sorted(segment.frames)}
        for name, (segment, rgb, _) in shown.segments.items()
    ]
    pictures = {str(role): sorted(files) for role, files in shown.pictures.items()}
    if predicted := pictures.pop(Role.PREDICTED_SERIES, None):
        pictures |= {"predicted": predicted, "difference": predicted}
    unreadable = _called([*SEGMENT_RGB], shown.unreadable) | _beside(shown.unreadable)
    return {"segments": segments, "pictures": pictures, "unreadable": unreadable}


def _made(shown: Shown, name: str, index: int) -> _Made | None:
    """A picture of slice `index` by its name, such as source-brain or segmentation-1-outline; None for no such one."""
    if name == Role.SUMMARY_PAGE and index == -1:
        return _whole(shown.files(name)[0].file) if shown.files(name) else None
    if not 0 <= index < len(shown.slices):
        return None
    source = shown.slices[index].instance.file
    kind, _, rest = name.rpartition("-")
    if kind == "source" and rest in WINDOWS:
        return [source], lambda: gray_png(shown.hu(index), WINDOWS[rest])
    if rest in ("fill", "outline") and kind in shown.segments:
        segment, rgb, file = shown.segments[kind]
        paint = fill_png if rest == "fill" else outline_png
        return ([file], lambda: paint(segment.mask(index), rgb)) if index in segment.frames else None
    predicted = shown.pictures.get(Role.PREDICTED_SERIES, {}).get(index)
    if predicted and kind == "predicted" and rest in WINDOWS:
        return [predicted], lambda: gray_png(predicted_hu(Path(predicted)), WINDOWS[rest])
    if predicted and name == "difference":
        return [predicted, source], lambda: difference_png(predicted_hu(Path(predicted)), shown.hu(index))
    saliency = shown.pictures.get(name, {}).get(index) if name in SALIENCY else None
    return _whole(saliency) if saliency else None


def _whole(file: str) -> _Made:
    return [file], lambda: rgb_png(picture_rgb(Path(file)))
