"""Analyse: the stage that takes the next job through the supervised child process.

It claims a job, hands its series to the child under a deadline, keeps the results and moves the job on. What the child
does with the series is `analysis.py`.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock

from ichnode.domain.job import Job, JobState, retry_delay_s
from ichnode.domain.reasons import Reason
from ichnode.errors import ConfigError, InferenceError, RefusedSeries, StaleClaim
from ichnode.faults import point
from ichnode.inference.worker import Worker
from ichnode.metrics import Metrics
from ichnode.results.provenance import PredecessorReport, Role, RunContext
from ichnode.stages.analyser import Analysis, AnalysisRequest, ComposedObject
from ichnode.storage.dialect import may_be_committed
from ichnode.storage.files import FileStore
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger

log = logging.getLogger(__name__)

_FULL = errno.ENOSPC, errno.EDQUOT  # never the job's fault
_DISK = *_FULL, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE  # passes, unless one file of the job has it
_FIRST_REST_S, _LONGEST_REST_S = 2.0, 30.0


class AnalyseStage:
    """Takes the next ready job through the child process."""

    def __init__(
        self,
        *,
        worker: Worker[AnalysisRequest, Analysis],
        ledger: Ledger,
        history: History,
        intake: Intake,
        store: FileStore,
        metrics: Metrics,
        results_sha256: str,
        deadline_s: float,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._ledger = ledger
        self._history = history
        self._intake = intake
        self._store = store
        self._metrics = metrics
        self._results_sha256 = results_sha256
        self._deadline_s = deadline_s
        self._clock = clock
        self._stopping = stopping
        self._wake = wake  # the delivering loops
        self._monotonic = monotonic
        self._troubles, self._rests_until = 0, 0.0  # of the disk, one after the other; of the monotonic clock
        self._claimed: Job | None = None  # while a turn works on it
        self._turning = Lock()

    def turn(self, job_id: int | None = None) -> bool:
        """Analyse one job; whether there was one. No job is taken while there is no room for its results.

        Nor is it for some seconds after the disk was in trouble, longer each time: the next job would meet the same.
        With `job_id` it is that job, where it is still to be had.
        """
        with self._turning:
            return self._take_turn(job_id)

    def settle(self) -> None:
        """Between turns this node works on nothing: what it has claimed all the same was left by an error, and goes on.

        Where turns are given by others no turn may follow that would notice, and a claim may be committed although the
        connection broke before its answer came.
        """
        if self._turning.acquire(blocking=False):
            try:
                self._settle_unsettled()
                if left := self._ledger.recover(at=self._clock()):
                    log.warning("recovered", extra={"count": left, "detail": "jobs that an error had left claimed"})
            finally:
                self._turning.release()

    def _take_turn(self, job_id: int | None) -> bool:
        self._settle_unsettled()
        may_claim = self._monotonic() >= self._rests_until and self._store.has_room()
        self._claimed = self._ledger.claim(at=self._clock(), job_id=job_id) if may_claim else None
        if self._claimed is None:
            return False
        try:
            worked = self._analyse(self._claimed)
        except StaleClaim:
            log.info("claim_gone", extra={"job_id": self._claimed.id})
            worked = True
        self._claimed = None
        return worked

    def _analyse(self, job: Job) -> bool:
        point("job_claimed", job.study_instance_uid)
        try:
            self._keep(job, self._worker.run(self._request(job), self._deadline_s))
        except RefusedSeries as refusal:
            self._ledger.refuse(job, reason=refusal.reason, detail=refusal.detail, at=self._clock())
            self._metrics.series_decisions.labels("refuse", refusal.reason).inc()
            log.info("series_refused", extra={"job_id": job.id, "reason": refusal.reason, "detail": refusal.detail})
        except InferenceError as failure:
            if self._stopping():  # maybe because the child died: counted, or it might do so for ever
                self._interrupted(job, failure.reason, "parked: the node stops")
            elif failure.errno is not None and failure.errno in _DISK:
                return self._wait_for_the_disk(job, failure.errno)
            else:
                self._failed(job, failure.reason, failure.detail)
        except ConfigError as problem:  # a bundle was altered since the start
            self._failed(job, "bundle", str(problem))
        except OSError as problem:
            if problem.errno is None or problem.errno not in _DISK:
                raise
            return self._wait_for_the_disk(job, problem.errno)
        self._troubles = 0
        return True

    def _wait_for_the_disk(self, job: Job, problem: int) -> bool:
        """Give the job back, and rest: there is no more to do for now. What never passes ends the job at last."""
        rest_s = retry_delay_s(self._troubles + 1, first_s=_FIRST_REST_S, cap_s=_LONGEST_REST_S, jitter=0)
        self._rests_until = self._monotonic() + rest_s
        if problem in _FULL:  # noticed soon when there is room again
            self._ledger.give_back(job, detail="no room for the results", at=self._clock())
        else:
            self._troubles += 1
            self._interrupted(job, "disk", f"the disk is in trouble: {os.strerror(problem)}")
        return False

    def _settle_unsettled(self) -> None:
        """A job that the turn before left claimed, by an error that nobody foresaw, must not stay so."""
        if self._claimed is not None:
            try:
                self._failed(self._claimed, "error", "unexpected, see the log of ichnode")
            except StaleClaim:
                log.info("claim_gone", extra={"job_id": self._claimed.id})
            self._claimed = None

    def _request(self, job: Job) -> AnalysisRequest:
        snapshot = self._intake.snapshot(job.study_instance_uid, last_instance_id=self._history.snapshot_end(job))
        series = next(s for s in snapshot.series if s.series_instance_uid == job.series_instance_uid)
        return AnalysisRequest(
            series=series,
            run=job.run,
            context=RunContext(
                run_at=datetime.fromtimestamp(self._clock()),
                config_sha256=self._results_sha256,
                rule=job.rule or "",
                predecessor=self._predecessor(job),
            ),
            not_analysed=(None if job.decision == "analyse" else (Reason(job.decision_reason), job.decision_detail)),
            report_refusal=job.report_ignored,
        )

    def _predecessor(self, job: Job) -> PredecessorReport | None:
        report = self._history.predecessor(job, Role.MEASUREMENT_REPORT)
        if report is None:
            return None
        return PredecessorReport(
            sop_class_uid=report.sop_class_uid,
            sop_instance_uid=report.sop_instance_uid,
            series_instance_uid=report.series_instance_uid,
            study_instance_uid=job.study_instance_uid,
        )

    def _keep(self, job: Job, analysis: Analysis) -> None:
        files: list[ResultFile] = []
        try:
            for composed in analysis.objects:
                files.append(keep_composed(composed, self._store))
                point("result_kept", job.study_instance_uid)
            state = self._ledger.finish_analysis(
                job,
                files,
                findings=analysis.findings,
                seconds=analysis.seconds,
                refusal=analysis.refusal,
                at=self._clock(),
            )
        except BaseException as problem:
            discard_unless_committed(files, problem)
            raise
        point("outbox_filled", job.study_instance_uid)
        for step, seconds in analysis.seconds.items():
            self._metrics.stage_seconds.labels(step).observe(seconds)
        if "infer" in analysis.seconds:
            self._metrics.inference_seconds.labels(analysis.model, analysis.device).observe(analysis.seconds["infer"])
        log.info("analysed", extra={"job_id": job.id, "state": state, "count": len(files)})
        self._wake()

    def _interrupted(self, job: Job, reason: str, detail: str) -> None:
        state = self._ledger.interrupt(job, reason=reason, detail=detail, at=self._clock())
        log.warning("interrupted", extra={"job_id": job.id, "reason": reason, "detail": detail, "state": state})
        self._count_failed(state, reason)

    def _failed(self, job: Job, reason: str, detail: str) -> None:
        state = self._ledger.fail_attempt(job, reason=reason, detail=detail, at=self._clock())
        log.error("attempt_failed", extra={"job_id": job.id, "reason": reason, "state": state})
        self._count_failed(state, reason)

    def _count_failed(self, state: JobState, reason: str) -> None:
        if state is JobState.FAILED:
            self._metrics.series_decisions.labels("fail", reason).inc()


def discard_unless_committed(files: Sequence[ResultFile], problem: BaseException) -> None:
    """Leave no file that no row names, after `problem`; where rows may name them all the same, leave the files."""
    if not may_be_committed(problem):
        discard(files)


def discard(files: Sequence[ResultFile]) -> None:
    """Leave nothing of files that no row names."""
    for kept in files:
        Path(kept.file).unlink()


def keep_composed(composed: ComposedObject, store: FileStore) -> ResultFile:
    """The result on the disk. Raises OSError."""
    file = store.keep([composed.encoded])
    return ResultFile(
        role=composed.role,
        sop_instance_uid=composed.sop_instance_uid,
        sop_class_uid=composed.sop_class_uid,
        series_instance_uid=composed.series_instance_uid,
        file=str(file),
        size_bytes=len(composed.encoded),
    )
