"""Destinations as plain values, for the API and the command line."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from ichnode.storage.outbox import Outbox
from ichnode.storage.overview import NEVER_SENT_TO, Overview
from ichnode.storage.refused_classes import RefusedClass, RefusedClasses


def list_of_destinations(
    names: Collection[str], outbox: Outbox, overview: Overview, refused: RefusedClasses
) -> list[dict[str, Any]]:
    """What each waits for, took last and did not take, when it is tried, and which SOP classes it refuses."""
    waiting, fares, known = outbox.open_destinations(), overview.at_destinations(), refused.all()
    return [
        {
            "name": name,
            "waiting": waiting.get(name, 0),
            **asdict(fares.get(name, NEVER_SENT_TO)),
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
