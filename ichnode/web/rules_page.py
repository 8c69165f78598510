"""The rules page: the rules as they were read, and what they make of a stored study, clause by clause."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ichnode.domain.reasons import EXPLAINED
from ichnode.domain.rules import all_clauses
from ichnode.imaging.data_set import PYDICOM_ERRORS
from ichnode.storage.worklist import Group
from ichnode.web.pages import Pages
from ichnode.web.parts import WebParts

_OFFERED = 100  # studies


def rules_routes(parts: WebParts, pages: Pages) -> list[Route]:
    """/rules, with ?study= a dry run."""
    patients = pages.patients

    def rules(request: Request) -> Response:
        uid, traced, trouble = request.query_params.get("study", "").strip(), None, ""
        if uid:
            try:
                traced = parts.trace(uid)
            except (OSError, *PYDICOM_ERRORS) as problem:
                trouble = f"Its files cannot be read: {getattr(problem, 'strerror', None) or type(problem).__name__}"
            if not traced and not trouble:
                trouble = "No snapshot of this study was taken, or its instances were purged."
        offered = parts.work_list.newest(Group.ALL, limit=_OFFERED)
        return pages.html(
            request,
            "rules.html",
            rules=[(rule, [(clause, clause in rule.match) for clause in all_clauses(rule)]) for rule in parts.rules],
            studies=[(study, patients.of(study.file)) for study in offered],
            uid=uid,
            listed=uid in {study.study_instance_uid for study in offered},
            traced=traced,
            trouble=trouble,
            explained=EXPLAINED,
        )

    return [Route("/rules", rules)]
