"""From one prediction to the DICOM objects that a site wants: which are written when, and what refers to what."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from ichnode.domain.findings import Findings, ModelIdentity
from ichnode.domain.reasons import Reason
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.volume import Volume
from ichnode.results.colours import GROWTH_RGB, HEMATOMA_RGB, PREDICTED_RGB
from ichnode.results.key_slices import key_slice_indices, largest_slice_index
from ichnode.results.measurement_report import (
    compose_measurement_report,
    compose_not_analysed_report,
    hematoma_name,
)
from ichnode.results.outline_report import compose_outline_report
from ichnode.results.predicted_series import compose_predicted_series
from ichnode.results.prediction_report import compose_prediction_report
from ichnode.results.provenance import Provenance, Result, ResultProfile, Role, RunContext
from ichnode.results.saliency_series import compose_saliency_series
from ichnode.results.segmentation import Segment, compose_segmentation
from ichnode.results.source_headers import patient_and_study, slice_headers
from ichnode.results.summary_page import compose_summary_page


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """Everything that the objects of one run are made of."""

    sources: tuple[Dataset, ...]
    headers: tuple[Dataset, ...]
    volume: Volume
    prediction: Prediction
    findings: Findings
    provenance: Provenance

    def writes(self, role: Role) -> bool:
        return role in self.provenance.profile.objects

    @property
    def segmentable(self) -> bool:
        """Without a frame of reference there is no Segmentation (PS3.3 A.51.3)."""
        return "FrameOfReferenceUID" in self.headers[0]


def compose_results(
    *,
    sources: tuple[Dataset, ...],
    volume: Volume,
    prediction: Prediction,
    findings: Findings,
    profile: ResultProfile,
    context: RunContext,
) -> tuple[Result, ...]:
    """Every object that `profile` wants and `prediction` gives, segmentations first.

    `sources` are headers without pixels as received, one a slice in the order of `volume.grid`, or one Enhanced CT
    header. Without a frame of reference segmentations are left out, and the reports refer to the source alone.
    """
    run = _Run(
        sources=sources,
        headers=slice_headers(sources, volume.grid),
        volume=volume,
        prediction=prediction,
        findings=findings,
        provenance=_provenance(sources[0], volume.grid.sop_instance_uids, findings.models, profile, context),
    )
    segmentation = _segmentation(run)
    segmentations = (*segmentation, *_predicted_segmentation(run))
    return (*segmentations, *_reports(run, segmentation, segmentations), *_images(run))


def compose_not_analysed(
    *,
    source: Dataset,
    evidence: tuple[tuple[str, str], ...],
    reason: Reason,
    detail: str,
    profile: ResultProfile,
    context: RunContext,
) -> Result:
    """A measurement report that says that a series was not analysed, and why.

    `source` is one header of the series as received; `evidence` are (SOP Class UID, SOP Instance UID) of its instances.
    """
    instances = list[Dataset]()
    for sop_class_uid, sop_instance_uid in evidence:
        instance = Dataset()
        instance.SOPClassUID, instance.SOPInstanceUID = sop_class_uid, sop_instance_uid
        instance.StudyInstanceUID, instance.SeriesInstanceUID = source.StudyInstanceUID, source.SeriesInstanceUID
        instances.append(instance)
    derived_from = (*(sop_instance_uid for _, sop_instance_uid in evidence), reason)
    provenance = _provenance(source, derived_from, (), profile, context)
    return compose_not_analysed_report(reason=reason, detail=detail, evidence=instances, provenance=provenance)


def _provenance(
    source: Dataset,
    derived_from: tuple[str, ...],
    models: tuple[ModelIdentity, ...],
    profile: ResultProfile,
    context: RunContext,
) -> Provenance:
    return Provenance(
        patient_and_study=patient_and_study(source),
        scanner=source,
        derived_from=derived_from,
        models=models,
        profile=profile,
        context=context,
    )


def _segmentation(run: _Run) -> tuple[Result, ...]:
    """The hematoma now."""
    if not (run.findings.hematoma and run.segmentable and run.writes(Role.SEGMENTATION)):
        return ()
    name = hematoma_name(run.findings.hematoma)
    now = Segment(
        label=f"{name} (AI)",
        mask=run.prediction.hematoma,
        rgb=HEMATOMA_RGB,
        tracking_id=name,
        tracking_uid=run.provenance.uid("tracking", "hematoma"),
    )
    return (_compose_segmentation(run, Role.SEGMENTATION, (now,), run.prediction.model),)


def _predicted_segmentation(run: _Run) -> tuple[Result, ...]:
    """The predicted hematoma, and what of it is new as a segment of its own."""
    followup = run.prediction.followup
    if followup is None or not (
        followup.hematoma.any() and run.segmentable and run.writes(Role.PREDICTED_SEGMENTATION)
    ):
        return ()
    whole = Segment(
        label="Predicted 24h hematoma (AI prediction)",
        mask=followup.hematoma,
        rgb=PREDICTED_RGB,
        tracking_id="Predicted hematoma at 24 h",
        tracking_uid=run.provenance.uid("tracking", "predicted hematoma"),
    )
    growth = Segment(
        label="Predicted 24h hematoma growth (AI prediction)",
        mask=followup.hematoma & ~run.prediction.hematoma,
        rgb=GROWTH_RGB,
        tracking_id="Predicted growth at 24 h",
        tracking_uid=run.provenance.uid("tracking", "predicted growth"),
    )
    segments = (whole, growth) if growth.mask.any() else (whole,)
    return (_compose_segmentation(run, Role.PREDICTED_SEGMENTATION, segments, followup.model),)


def _compose_segmentation(run: _Run, role: Role, segments: tuple[Segment, ...], model: ModelIdentity) -> Result:
    return compose_segmentation(
        segments, role=role, headers=run.headers, grid=run.volume.grid, model=model, provenance=run.provenance
    )


def _reports(run: _Run, segmentation: tuple[Result, ...], segmentations: tuple[Result, ...]) -> tuple[Result, ...]:
    """The structured reports; `segmentation` is what the measurements refer to, where there is one."""
    findings, provenance, reports = run.findings, run.provenance, list[Result]()
    key_slices = [run.headers[i] for i in key_slice_indices(run.prediction.hematoma)]
    evidence = (*run.headers, *(result.dataset for result in segmentations))
    if run.writes(Role.MEASUREMENT_REPORT):
        reports.append(
            compose_measurement_report(
                findings,
                key_slices=key_slices,
                segmentation=segmentation[0].dataset if segmentation else None,
                evidence=evidence,
                provenance=provenance,
            )
        )
    if findings.hematoma and run.writes(Role.OUTLINE_REPORT):
        reports.append(
            compose_outline_report(
                findings.hematoma,
                run.prediction.hematoma,
                model=findings.model,
                headers=run.headers,
                grid=run.volume.grid,
                provenance=provenance,
            )
        )
    if findings.predictions and run.writes(Role.PREDICTION_REPORT):
        reports.append(
            compose_prediction_report(
                findings.predictions,
                key_slices=[run.headers[largest_slice_index(run.prediction.hematoma)]],
                evidence=evidence,
                provenance=provenance,
            )
        )
    return tuple(reports)


def _images(run: _Run) -> tuple[Result, ...]:
    """The summary page, the predicted series, and where answers come from."""
    images = list[Result]()
    if run.writes(Role.SUMMARY_PAGE):
        images.append(
            compose_summary_page(
                run.volume, run.prediction, run.findings, headers=run.headers, provenance=run.provenance
            )
        )
    if run.prediction.followup and run.writes(Role.PREDICTED_SERIES):
        images.extend(
            compose_predicted_series(
                run.prediction.followup.hu,
                sources=run.sources,
                headers=run.headers,
                grid=run.volume.grid,
                provenance=run.provenance,
            )
        )
    for saliency in run.prediction.saliency:
        if run.writes(Role(saliency.role)):
            images += compose_saliency_series(
                saliency,
                run.volume.hu,
                run.prediction.hematoma,
                headers=run.headers,
                frame_numbers=run.volume.grid.frame_numbers,
                provenance=run.provenance,
            )
    return tuple(images)
