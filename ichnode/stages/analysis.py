"""Analysis: everything between pixels and DICOM results. Reads files, writes nothing; runs in the child process."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from textwrap import shorten
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from ichnode.domain.contrast import is_after_thrombectomy
from ichnode.domain.findings import Caveat, Findings, ModelEstimates
from ichnode.domain.reasons import Reason
from ichnode.domain.study import Series
from ichnode.errors import RefusedSeries
from ichnode.faults import point
from ichnode.imaging.prediction import Prediction, Saliency
from ichnode.imaging.quality import checked_head
from ichnode.imaging.series_reader import read_volume
from ichnode.inference.bundle import load_pipelines
from ichnode.inference.expansion import ExpansionPredictor
from ichnode.inference.followup import AfterThrombectomyPredictor, SpontaneousPredictor
from ichnode.inference.forecaster import Forecaster
from ichnode.inference.head import Head
from ichnode.inference.predictor import Predictor, choose_device
from ichnode.inference.prognosis import PrognosisPredictor
from ichnode.inference.quantify import quantify
from ichnode.inference.volume_survival import VolumeSurvivalPredictor
from ichnode.results.compose import compose_not_analysed, compose_results
from ichnode.results.provenance import ResultProfile
from ichnode.stages.analyser import AnalyserSettings, Analysis, AnalysisRequest, ComposedObject
from ichnode.stages.clinical import ClinicalTable

log = logging.getLogger(__name__)

FORECASTERS: Mapping[str, type[Forecaster[Any]]] = {  # by pipeline, in the order of the results
    "expansion": ExpansionPredictor,
    "prognosis": PrognosisPredictor,
    "volume_survival": VolumeSurvivalPredictor,
    "followup": SpontaneousPredictor,
    "followup_after_thrombectomy": AfterThrombectomyPredictor,
}


_NO_TABLE = ClinicalTable(file=None)
_IN_A_YEAR = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}  # PS3.5: age strings


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What is loaded."""

    hematoma: Predictor
    forecasters: Mapping[str, Forecaster[Any]]  # by pipeline


def analyser(settings: AnalyserSettings) -> Callable[[AnalysisRequest], Analysis]:
    """Load the models once; the function that analyses with them. Raises ConfigError and InferenceError."""
    device = choose_device(settings.device)
    bundles = load_pipelines(settings.bundles, settings.bundles_dir, device)
    point("models_loading")
    models = Models(
        hematoma=Predictor(bundles["hematoma"], device),
        forecasters={
            pipeline: forecaster(bundles[pipeline], device)
            for pipeline, forecaster in FORECASTERS.items()
            if pipeline in bundles
        },
    )
    clinical = ClinicalTable(file=settings.clinical)
    return lambda request: analyse(request, models=models, profile=settings.profile, clinical=clinical)


def analyse(
    request: AnalysisRequest, *, models: Models, profile: ResultProfile, clinical: ClinicalTable = _NO_TABLE
) -> Analysis:
    """From a series to its results. Raises RefusedSeries, unless the request wants a refusal reported."""
    clock = _StepClock()
    try:
        if request.not_analysed:
            raise RefusedSeries(*request.not_analysed)
        volume = checked_head(read_volume(request.series))
    except RefusedSeries as refusal:
        if not (request.not_analysed or request.report_refusal):
            raise
        return _report_of(refusal, request, models.hematoma, profile, clock)
    clock.step("read")
    sources = _headers(request.series, volume.grid.sop_instance_uids)
    prediction = models.hematoma.predict(volume)
    point("mid_inference", request.series.study_instance_uid)
    findings = quantify(prediction, volume, models.hematoma.bundle.manifest.thresholds)
    told = clinical.of(str(sources[0].get("AccessionNumber") or ""))
    known = {**known_of(sources[0]), **told}
    head = Head(
        volume=volume,
        now=prediction,
        find=models.hematoma.predict,
        known=known,
        after_thrombectomy=_is_after_thrombectomy(request),
    )
    if head.after_thrombectomy:
        findings = replace(findings, caveats=(*findings.caveats, Caveat.STAINING))
    prediction, findings = _forecast(head, findings, request.run, models.forecasters, profile)
    clock.step("infer")
    results = compose_results(
        sources=sources,
        volume=volume,
        prediction=prediction,
        findings=findings,
        profile=profile,
        context=replace(request.context, told=told),
    )
    objects = tuple(map(ComposedObject.of, results))
    clock.step("compose")
    return Analysis(
        objects=objects,
        findings=asdict(findings),
        seconds=clock.seconds,
        model=findings.model.name,
        device=models.hematoma.device,
    )


def _is_after_thrombectomy(request: AnalysisRequest) -> bool:
    """As the rule or the header says."""
    asked = AfterThrombectomyPredictor.pipeline in request.run
    return asked or is_after_thrombectomy(request.series.instances[0].header)


def _forecast(
    head: Head,
    findings: Findings,
    run: tuple[str, ...],
    forecasters: Mapping[str, Forecaster[Any]],
    profile: ResultProfile,
) -> tuple[Prediction, Findings]:
    """What was found, and what all forecasters that the rule runs say of it. The first picture counts."""
    prediction = head.now
    for pipeline, forecaster in forecasters.items():
        if pipeline not in run or head.growing_ml < forecaster.least_ml:
            continue
        identity = forecaster.bundle.identity
        try:
            forecast = forecaster.predict(head, explain=forecaster.saliency in profile.objects)
        except Exception as failure:  # whatever goes wrong here takes nothing from what was found
            log.exception("forecast_failed", extra={"detail": identity.name})
            forecast = forecaster.abstain(f"the model failed: {shorten(str(failure), 120)}")
        said = ModelEstimates(model=identity, estimates=forecast.estimates)
        findings = replace(findings, predictions=(*findings.predictions, said))
        prediction = replace(prediction, followup=prediction.followup or forecast.followup)
        if forecast.heat is not None:
            why = Saliency(model=identity, role=forecaster.saliency, about=forecaster.explained, heat=forecast.heat)
            prediction = replace(prediction, saliency=(*prediction.saliency, why))
    return prediction, findings


def known_of(header: Dataset) -> dict[str, float]:
    """What a header tells of the patient, by the names of `inference.expansion.CLINICAL`."""
    age = str(header.get("PatientAge") or "")
    in_a_year = _IN_A_YEAR.get(age[3:])
    return {"age": float(age[:3]) / in_a_year} if in_a_year and age[:3].isdigit() else {}


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
    encoded = ComposedObject.of(result)
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
