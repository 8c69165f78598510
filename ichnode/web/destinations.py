"""Destinations as plain values, for the API and the command line."""

from collections.abc import Collection
from typing import Any

from ichnode.storage.outbox import Outbox
from ichnode.storage.refused_classes import RefusedClass, RefusedClasses


def list_of_destinations(names: Collection[str], outbox: Outbox, refused: RefusedClasses) -> list[dict[str, Any]]:
    """What each waits for, and which SOP classes it refuses, so that the summary page stands in."""
    waiting, known = outbox.open_destinations(), refused.all()
    return [
        {
            "name": name,
            "waiting": waiting.get(name, 0),
            "refused_classes": [_refused(r) for r in known if r.destination == name],
        }
        for name in names
    ]


def _refused(refused: RefusedClass) -> dict[str, Any]:
    return {
        "sop_class_uid": refused.sop_class_uid,
        "refused_at": refused.refused_at,
        "job_id": refused.job_id,
        "status": None if refused.status is None else f"0x{refused.status:04X}",
        "detail": refused.detail,
    }
