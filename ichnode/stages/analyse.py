"""Analyse: everything between pixels and DICOM results, and the stage that runs it on the next job.

`analyse` runs in the supervised child process: it reads files and writes nothing. `AnalyseStage` runs in the daemon:
it claims a job, hands the series to the child under a deadline, keeps the results and moves the job on.
"""

import errno
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from ichnode.domain.job import Job, JobState
from ichnode.domain.reasons import Reason
from ichnode.domain.study import Series
from ichnode.errors import InferenceError, RefusedSeries, StaleClaim
from ichnode.imaging.quality import check_head
from ichnode.imaging.series_reader import read_volume
from ichnode.inference.bundle import load_bundle
from ichnode.inference.predictor import Predictor, choose_device
from ichnode.inference.quantify import quantify
from ichnode.inference.worker import Worker
from ichnode.metrics import Metrics
from ichnode.results.compose import compose_not_analysed, compose_results
from ichnode.results.provenance import PredecessorReport, Result, ResultProfile, Role, RunContext
from ichnode.storage.files import FileStore
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest:
    """One series, and what stands in its results about the run."""

    series: Series
    context: RunContext
    not_analysed: tuple[Reason, str] | None = None  # write only a report that says so
    report_refusal: bool = False  # a gate's refusal becomes a report instead of an error


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedObject:
    """One result as a DICOM file in memory."""

    role: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    encoded: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What came out of one series."""

    objects: tuple[ComposedObject, ...]
    findings: Mapping[str, Any] | None
    seconds: Mapping[str, float]  # by step: read, infer, compose
    model: str
    device: str
    refusal: tuple[str, str] | None = None  # reason and detail, when the one object is a report of it


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyserSettings:
    """What the child process is built from; plain values that travel to it."""

    bundle: Path
    device: str
    profile: ResultProfile

    def __call__(self) -> Callable[[AnalysisRequest], Analysis]:
        """Load the model once; the function that analyses with it."""
        device = choose_device(self.device)
        predictor = Predictor(load_bundle(self.bundle, device), device)
        return lambda request: analyse(request, predictor=predictor, profile=self.profile)


def analyse(request: AnalysisRequest, *, predictor: Predictor, profile: ResultProfile) -> Analysis:
    """From a series to its results. Raises RefusedSeries, unless the request wants a refusal reported."""
    clock = _StepClock()
    try:
        if request.not_analysed:
            raise RefusedSeries(*request.not_analysed)
        volume = read_volume(request.series)
        check_head(volume)
    except RefusedSeries as refusal:
        if not (request.not_analysed or request.report_refusal):
            raise
        return _report_of(refusal, request, predictor, profile, clock)
    clock.step("read")
    prediction = predictor.predict(volume)
    findings = quantify(prediction, volume, predictor.bundle.manifest.thresholds)
    clock.step("infer")
    results = compose_results(
        sources=_headers(request.series, volume.grid.sop_instance_uids),
        volume=volume,
        prediction=prediction,
        findings=findings,
        profile=profile,
        context=request.context,
    )
    objects = tuple(map(_encoded, results))
    clock.step("compose")
    return Analysis(
        objects=objects,
        findings=asdict(findings),
        seconds=clock.seconds,
        model=findings.model.name,
        device=predictor.device,
    )


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
        self._claimed: Job | None = None  # while a turn works on it

    def turn(self) -> bool:
        """Analyse one job; whether there was one. No job is taken while there is no room for its results."""
        self._settle_unsettled()
        self._claimed = self._ledger.claim(at=self._clock()) if self._store.has_room() else None
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
        try:
            self._keep(job, self._worker.run(self._request(job), self._deadline_s))
        except RefusedSeries as refusal:
            self._ledger.refuse(job, reason=refusal.reason, detail=refusal.detail, at=self._clock())
            self._metrics.series_decisions.labels("refuse", refusal.reason).inc()
            log.info("series_refused", extra={"job_id": job.id, "reason": refusal.reason, "detail": refusal.detail})
        except InferenceError as failure:
            if self._stopping():
                self._ledger.give_back(job, detail="parked: the node stops", at=self._clock())
            else:
                self._failed(job, failure.reason, failure.detail)
        except OSError as problem:
            if problem.errno != errno.ENOSPC:
                raise
            self._ledger.give_back(job, detail="no room for the results", at=self._clock())
            return False
        return True

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
        state: JobState | None = None
        try:
            for composed in analysis.objects:
                file = self._store.keep([composed.encoded])
                files.append(
                    ResultFile(
                        role=composed.role,
                        sop_instance_uid=composed.sop_instance_uid,
                        sop_class_uid=composed.sop_class_uid,
                        series_instance_uid=composed.series_instance_uid,
                        file=str(file),
                    )
                )
            state = self._ledger.finish_analysis(
                job,
                files,
                findings=analysis.findings,
                seconds=analysis.seconds,
                refusal=analysis.refusal,
                at=self._clock(),
            )
        finally:
            if state is None:
                for kept in files:
                    Path(kept.file).unlink()
        for step, seconds in analysis.seconds.items():
            self._metrics.stage_seconds.labels(step).observe(seconds)
        if "infer" in analysis.seconds:
            self._metrics.inference_seconds.labels(analysis.model, analysis.device).observe(analysis.seconds["infer"])
        log.info("analysed", extra={"job_id": job.id, "state": state, "count": len(files)})
        self._wake()

    def _failed(self, job: Job, reason: str, detail: str) -> None:
        state = self._ledger.fail_attempt(job, reason=reason, detail=detail, at=self._clock())
        log.error("attempt_failed", extra={"job_id": job.id, "reason": reason, "state": state})
        if state is JobState.FAILED:
            self._metrics.series_decisions.labels("fail", reason).inc()


class _StepClock:
    """How long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def step(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 4)
        self._last = now


def _report_of(
    refusal: RefusedSeries, request: AnalysisRequest, predictor: Predictor, profile: ResultProfile, clock: _StepClock
) -> Analysis:
    instances = request.series.instances
    result = compose_not_analysed(
        source=_header(instances[0].file),
        evidence=tuple((i.sop_class_uid, i.sop_instance_uid) for i in instances),
        reason=Reason(refusal.reason),
        detail=refusal.detail,
        profile=profile,
        context=request.context,
    )
    encoded = _encoded(result)
    clock.step("compose")
    return Analysis(
        objects=(encoded,),
        findings=None,
        seconds=clock.seconds,
        model=predictor.bundle.manifest.name,
        device=predictor.device,
        refusal=(refusal.reason, refusal.detail),
    )


def _headers(series: Series, sop_instance_uids: tuple[str, ...]) -> tuple[Dataset, ...]:
    """One header for each instance, in the order of the slices."""
    files = {instance.sop_instance_uid: instance.file for instance in series.instances}
    return tuple(_header(files[uid]) for uid in dict.fromkeys(sop_instance_uids))


def _header(file: str) -> Dataset:
    return dcmread(file, force=True, stop_before_pixels=True)


def _encoded(result: Result) -> ComposedObject:
    buffer = BytesIO()
    result.dataset.save_as(buffer, enforce_file_format=True)
    return ComposedObject(
        role=result.role,
        sop_class_uid=str(result.dataset.SOPClassUID),
        sop_instance_uid=str(result.dataset.SOPInstanceUID),
        series_instance_uid=str(result.dataset.SeriesInstanceUID),
        encoded=buffer.getvalue(),
    )
