"""A plan as the rules make one: the series is analysed for hematoma and its results go to one PACS."""

from typing import Any

from ichnode.domain.job import JobState
from ichnode.storage.ledger import PlannedJob


def planned_job(series_instance_uid: str, **differently: Any) -> PlannedJob:
    """A ready job for the series, but for what is told."""
    fields: dict[str, Any] = {
        "state": JobState.READY,
        "decision": "analyse",
        "reason": "chosen",
        "detail": "",
        "rule": "r",
        "run": ("hematoma",),
        "send_to": ("pacs",),
        "priority": "routine",
        "report_ignored": False,
        "input_sha256": "x",
    }
    return PlannedJob(series_instance_uid=series_instance_uid, **fields | differently)
