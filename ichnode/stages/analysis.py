"""Analysis: everything between pixels and DICOM results. Reads files, writes nothing; runs in the child process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from ichnode.domain.reasons import Reason
from ichnode.domain.study import Series
from ichnode.errors import RefusedSeries
from ichnode.imaging.quality import check_head
from ichnode.imaging.series_reader import read_volume
from ichnode.inference.bundle import load_bundle
from ichnode.inference.manifest import SegmenterManifest
from ichnode.inference.predictor import Predictor, choose_device
from ichnode.inference.quantify import quantify
from ichnode.results.compose import compose_not_analysed, compose_results
from ichnode.results.provenance import Result, ResultProfile, RunContext


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
        predictor = Predictor(load_bundle(self.bundle, device, SegmenterManifest), device)
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
