"""The frame of every structured report: TID 1500 Measurement Report around the groups of one template (PS3.16).

Groups of different templates (1410, 1411, 1501) are never mixed in one document: validators cannot tell them apart.
"""

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    TextContentItem,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from ichnode.domain.findings import ModelIdentity
from ichnode.domain.identity import derived_uid
from ichnode.results.concepts import (
    ALGORITHM_FAMILIES,
    CT_UNSPECIFIED_REGION,
    INTENDED_USE,
    INTENDED_USE_STATEMENT,
    RESEARCH_USE_ONLY,
    TRAINING_DATA,
    own_scheme_item,
)
from ichnode.results.provenance import MANUFACTURER, PredecessorReport, Provenance, Result, Role, finish

SOP_CLASSES = {
    "comprehensive_3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
    "enhanced": EnhancedSRStorage,
}
Group = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


def compose_report(
    groups: Sequence[Group],
    *,
    role: Role,
    library: Sequence[Dataset],
    evidence: Sequence[Dataset],
    provenance: Provenance,
) -> Result:
    """A TID 1500 report of `groups`, all of one template.

    `library` are slice headers that the Image Library lists: the ones that the groups speak of, for highdicom writes 18
    items each. `evidence` are all source and segmentation instances.
    """
    content = MeasurementReport(
        observation_context=observer(provenance),
        procedure_reported=CT_UNSPECIFIED_REGION,
        imaging_measurements=groups,
        referenced_images=library,
    )
    return compose_document(content[0], role=role, evidence=evidence, provenance=provenance)


def compose_document(content: Dataset, *, role: Role, evidence: Sequence[Dataset], provenance: Provenance) -> Result:
    """A complete, unverified, preliminary SR document (PS3.3 C.17.2) around the root item `content`.

    highdicom's own document classes copy the whole tree twice and cannot read a NUM without a value, so only its
    content items are used.
    """
    dataset = Dataset()
    dataset.update(content)
    dataset.SOPClassUID = SOP_CLASSES[provenance.profile.sr_class]
    dataset.Modality = "SR"
    dataset.CodingSchemeIdentificationSequence = [own_scheme_item()]
    dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    dataset.PerformedProcedureCodeSequence, dataset.ReferencedPerformedProcedureStepSequence = [], []
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence_item(evidence)]
    if role == Role.MEASUREMENT_REPORT and provenance.context.predecessor is not None:
        dataset.PredecessorDocumentsSequence = [_predecessor_item(provenance.context.predecessor)]
    return finish(dataset, role, provenance)


def observer(provenance: Provenance) -> ObservationContext:
    """This node as device observer."""
    serial_number = provenance.profile.device_serial_number
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", serial_number),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MANUFACTURER,
        serial_number=serial_number,
    )
    context = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=context)


def measurement(
    name: Code,
    value: float,
    unit: Code,
    model: ModelIdentity,
    *,
    derivation: Code | None = None,
    method: Code | None = None,
) -> Measurement:
    """One NUM with the identity of the model that is behind it; three decimals are more than any of them knows."""
    return Measurement(
        name=name, value=round(value, 3), unit=unit, algorithm_id=algorithm(model), derivation=derivation, method=method
    )


def algorithm(model: ModelIdentity) -> AlgorithmIdentification:
    """TID 4019: name, version, weights and family."""
    return AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"weights_sha256={model.weights_sha256}", f"family={model.family}"],
        family=ALGORITHM_FAMILIES[model.family],
    )


def evaluation(name: Code, value: Code) -> QualitativeEvaluation:
    """One coded question and answer."""
    return QualitativeEvaluation(name=CodedConcept.from_code(name), value=CodedConcept.from_code(value))


def research_use() -> QualitativeEvaluation:
    """The item that every group carries: research use only."""
    return evaluation(INTENDED_USE, RESEARCH_USE_ONLY)


def append_model_statements(group: Dataset, model: ModelIdentity) -> None:
    """Add to a measurement group, as text, what the model was trained on and what it is meant for."""
    append_text(group, TRAINING_DATA, f"Trained on {model.trained_on}")
    append_text(group, INTENDED_USE_STATEMENT, model.intended_use)


def append_text(group: Dataset, name: Code, text: str) -> None:
    """Add one text item to a container."""
    group.ContentSequence.append(TextContentItem(name=name, value=text, relationship_type="CONTAINS"))


def plain_image_library(images: Sequence[tuple[str, str]]) -> ContainerContentItem:
    """An Image Library that says no more than CT of (SOP Class UID, SOP Instance UID): headers may be unusable."""
    library = ContainerContentItem(name=codes.DCM.ImageLibrary, relationship_type="CONTAINS")
    group = ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type="CONTAINS")
    modality = CodeContentItem(
        name=codes.DCM.Modality, value=Code("CT", "DCM", "Computed Tomography"), relationship_type="HAS ACQ CONTEXT"
    )
    items = ContentSequence([modality])
    for sop_class_uid, sop_instance_uid in images:
        image = ImageContentItem(
            name=Code("260753009", "SCT", "Source"),
            referenced_sop_class_uid=sop_class_uid,
            referenced_sop_instance_uid=sop_instance_uid,
            relationship_type="CONTAINS",
        )
        items.append(image)
    group.ContentSequence = items
    library.ContentSequence = ContentSequence([group])
    return library


def _evidence_item(evidence: Sequence[Dataset]) -> Dataset:
    """All of `evidence`, one study, by series, each instance once (PS3.3 C.17.2.3)."""
    of_series: dict[str, dict[str, Dataset]] = {}
    for instance in evidence:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
        of_series.setdefault(instance.SeriesInstanceUID, {}).setdefault(instance.SOPInstanceUID, item)
    study, all_series = Dataset(), []
    for series_instance_uid, items in of_series.items():
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedSOPSequence = series_instance_uid, list(items.values())
        all_series.append(series)
    study.StudyInstanceUID, study.ReferencedSeriesSequence = evidence[0].StudyInstanceUID, all_series
    return study


def _predecessor_item(predecessor: PredecessorReport) -> Dataset:
    """The report that this one replaces (PS3.3 C.17.2.2)."""
    study, series, document = Dataset(), Dataset(), Dataset()
    document.ReferencedSOPClassUID = predecessor.sop_class_uid
    document.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    series.SeriesInstanceUID, series.ReferencedSOPSequence = predecessor.series_instance_uid, [document]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = predecessor.study_instance_uid, [series]
    return study
