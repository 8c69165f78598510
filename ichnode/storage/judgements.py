"""Judgements: what people said of results, appended in one transaction with the audit event and the withdrawal.

A rejection that withdraws also cancels what is still to be delivered, and leaves a row in `withdrawals`, from which the
rejection note is made (`storage.withdrawals`, `stages.withdraw`).
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, select

from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.domain.findings import ModelIdentity
from ichnode.domain.job import Job, JobState
from ichnode.domain.judgement import Judgement, Opinion, RejectReason, Verdict
from ichnode.errors import NothingToJudge
from ichnode.storage.audit import append_audit
from ichnode.storage.dialect import reading
from ichnode.storage.history import read_job
from ichnode.storage.ledger import stop_delivering
from ichnode.storage.schema import jobs, judgements, results, withdrawals

_AT_WORK = (JobState.READY, JobState.ANALYSING)


class Judgements:
    """The table that judging writes and reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def judgeable(self, job_id: int) -> Job:
        """The job, if its results can be judged now. Raises NothingToJudge."""
        with reading(self._engine) as db:
            return _judgeable(db, job_id)

    def record(self, job_id: int, opinion: Opinion, *, who: str, at: float, withdraw: bool) -> Judgement:
        """Append what `who` said of the job's results. Raises NothingToJudge.

        `withdraw`: a rejection withdraws them, if that has not begun already and their files are here. The same said
        again by the same person, with the same effect, is not appended.
        """
        with self._engine.begin() as db:
            job = _judgeable(db, job_id)
            withdraws = withdraw and opinion.verdict is Verdict.REJECTED and _can_be_withdrawn(db, job_id)
            said = _read(db, judgements.c.job_id == job_id)
            if said and (said[-1].who, said[-1].opinion) == (who, opinion) and not withdraws:
                return said[-1]
            judgement_id = _append(db, job, opinion, who, at)
            if withdraws:
                db.execute(insert(withdrawals).values(job_id=job_id, judgement_id=judgement_id, to_do=True))
                stop_delivering(db, job, at=at, detail="its results were rejected and are withdrawn", who=who)
            what = {
                "job": job_id,
                "study": pseudonym(job.study_instance_uid),
                "verdict": opinion.verdict.value,
                "reason": opinion.reason.value if opinion.reason else None,
                "corrected_ml": opinion.corrected_ml,
                "withdraws": withdraws,
            }
            append_audit(db, AuditEvent.JUDGED, who=who, what=what, at=at)
            return _read(db, judgements.c.id == judgement_id)[0]

    def of_job(self, job_id: int) -> list[Judgement]:
        """What was said of a job's results, the oldest first; the last counts."""
        with reading(self._engine) as db:
            return _read(db, judgements.c.job_id == job_id)

    def all(self) -> list[Judgement]:
        """Every judgement, the oldest first."""
        with reading(self._engine) as db:
            return _read(db)

    def count(self) -> dict[tuple[str, str], int]:
        """How many there are, by name and version of the model, with a space between, and by verdict."""
        columns = judgements.c.bundle, judgements.c.bundle_version, judgements.c.verdict
        with reading(self._engine) as db:
            rows = db.execute(select(*columns, func.count()).group_by(*columns).order_by(*columns))
            return {(f"{bundle} {version}", verdict): count for bundle, version, verdict, count in rows}


def _judgeable(db: Connection, job_id: int) -> Job:
    job = read_job(db, job_id)
    if job is None:
        raise NothingToJudge(f"There is no job {job_id}.")
    if job.state in _AT_WORK:
        raise NothingToJudge(f"Job {job_id} is still being analysed: it has no results yet.")
    composed = db.execute(select(results.c.id).where(results.c.job_id == job_id).limit(1)).first()
    if composed is None or not job.findings:
        raise NothingToJudge(f"Job {job_id} has no results that could be judged: nothing was analysed.")
    return job


def _can_be_withdrawn(db: Connection, job_id: int) -> bool:
    """Whether that has not begun, and no file is gone: the note takes patient and study from one."""
    begun = db.execute(select(withdrawals.c.job_id).where(withdrawals.c.job_id == job_id)).first()
    purged = db.execute(select(results.c.id).where(results.c.job_id == job_id, results.c.purged_at.is_not(None)))
    return begun is None and purged.first() is None


def _append(db: Connection, job: Job, opinion: Opinion, who: str, at: float) -> int:
    findings: Mapping[str, Any] = job.findings or {}
    model, hematoma = ModelIdentity.as_stored(findings["model"]), findings.get("hematoma")
    row = {
        "job_id": job.id,
        "at": at,
        "who": who,
        "verdict": opinion.verdict.value,
        "reason": opinion.reason.value if opinion.reason else None,
        "comment": opinion.comment,
        "corrected_ml": opinion.corrected_ml,
        "bundle": model.name,
        "bundle_version": model.version,
        "weights_sha256": model.weights_sha256,
        "predicted_ml": hematoma["volume_ml"] if hematoma else 0.0,
    }
    return int(db.execute(insert(judgements).values(row).returning(judgements.c.id)).scalar_one())


_QUERY = (
    select(judgements, jobs.c.study_instance_uid, withdrawals.c.judgement_id.is_not(None).label("withdraws"))
    .join(jobs, jobs.c.id == judgements.c.job_id)
    .outerjoin(withdrawals, withdrawals.c.judgement_id == judgements.c.id)
    .order_by(judgements.c.id)
)


def _read(db: Connection, *where: ColumnElement[bool]) -> list[Judgement]:
    return [_as_judgement(row._mapping) for row in db.execute(_QUERY.where(*where))]


def _as_judgement(row: Mapping[Any, Any]) -> Judgement:
    """A row of `judgements` with the study of its job."""
    return Judgement(
        id=row["id"],
        job_id=row["job_id"],
        study_instance_uid=row["study_instance_uid"],
        at=row["at"],
        who=row["who"],
        opinion=Opinion(
            verdict=Verdict(row["verdict"]),
            reason=RejectReason(row["reason"]) if row["reason"] else None,
            comment=row["comment"],
            corrected_ml=row["corrected_ml"],
        ),
        bundle=row["bundle"],
        bundle_version=row["bundle_version"],
        weights_sha256=row["weights_sha256"],
        predicted_ml=row["predicted_ml"],
        withdraws=row["withdraws"],
    )
