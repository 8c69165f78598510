"""Jobs as plain values, for the API and the command line."""

from collections.abc import Mapping
from typing import Any

from ichnode.domain.job import Job, JobState
from ichnode.storage.history import History, Purge
from ichnode.storage.intake import Intake
from ichnode.storage.outbox import Outbox
from ichnode.storage.standing import Standing
from ichnode.web.said import without_told


def list_of_jobs(history: History, *, state: JobState | None = None, limit: int = 200) -> list[dict[str, Any]]:
    """The newest jobs first, one short record each."""
    listed = history.list_jobs(state=state, limit=limit)
    standings = history.standings([job.id for job in listed])
    return [_short(job, standings.get(job.id)) for job in listed]


def one_job(
    history: History, outbox: Outbox, intake: Intake, job_id: int, *, masked: bool = False
) -> dict[str, Any] | None:
    """Everything about one job: findings, steps, events, results and their deliveries.

    Masked: without what models were told of the patient.
    """
    job = history.job(job_id)
    if job is None:
        return None
    return {
        **_short(job, history.standings([job_id]).get(job_id)),
        "send_to": list(job.send_to),
        "run": list(job.run),
        "supersedes": job.supersedes,
        "conflicting_instances": intake.conflicts(job.study_instance_uid),  # other bytes under a known UID
        "findings": _without_told(job.findings) if masked else job.findings,
        "seconds": history.seconds(job_id),
        "events": [
            {"at": e.at, "from_state": e.from_state, "to_state": e.to_state, "detail": e.detail}
            for e in history.events(job_id)
        ],
        "purged": _purge(history.purge(job)),
        "results": [
            {
                "role": r.role,
                "sop_instance_uid": r.sop_instance_uid,
                "sop_class_uid": r.sop_class_uid,
                "series_instance_uid": r.series_instance_uid,
                "file": r.file,
            }
            for r in history.results(job_id)
        ],
        "deliveries": [
            {
                "destination": d.destination,
                "role": d.role,
                "sop_instance_uid": d.sop_instance_uid,
                "state": d.state,
                "attempts": d.attempts,
                "transaction_uid": d.transaction_uid,  # in which commitment was last asked for
                "status": None if d.status is None else f"0x{d.status:04X}",
                "error": d.error,
                "delivered_at": d.delivered_at,
                "next_attempt_at": d.next_attempt_at,
            }
            for d in outbox.of_job(job_id)
        ],
    }


def _without_told(value: Any) -> Any:
    """Findings with every text in them as pages show it where patients are masked."""
    if isinstance(value, Mapping):
        return {key: _without_told(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_told(one) for one in value]
    return without_told(value) if isinstance(value, str) else value


def _purge(purge: Purge | None) -> dict[str, Any] | None:
    """When and why the files behind a job were removed."""
    if purge is None:
        return None
    return {"at": purge.at, "reason": purge.reason, "instances": purge.instances, "results": purge.results}


def _short(job: Job, standing: Standing | None) -> dict[str, Any]:
    findings = job.findings or {}
    hematoma = findings.get("hematoma")
    return {
        "id": job.id,
        "state": job.state.value,
        "decision": job.decision,
        "reason": job.reason,
        "detail": job.detail,
        "rule": job.rule,
        "priority": job.priority,
        "evidence": job.evidence,
        "study_instance_uid": job.study_instance_uid,
        "series_instance_uid": job.series_instance_uid,
        "attempts": job.attempts,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "hematoma_ml": hematoma.get("volume_ml") if hematoma else (0.0 if "hematoma" in findings else None),
        "verdict": standing.verdict.value if standing else None,  # of whoever judged the results last
        "withdrawn": bool(standing and standing.withdrawn),
    }
