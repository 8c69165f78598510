"""SR-A: what was measured on the hematoma (TID 1411 on the segment), that none was found, or that nothing was analysed.

Without a segmentation object to refer to, the same measurements stand in a TID 1501 group.
"""

from collections.abc import Sequence
from typing import Any

from highdicom.sr import (
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ichnode.domain.findings import Findings, Hematoma, HematomaPart, HemorrhageType, ModelIdentity, Side
from ichnode.domain.reasons import EXPLAINED, Reason
from ichnode.results.concepts import (
    ABC2,
    ALTERED_STRUCTURE,
    ANALYSED,
    AREA,
    BRAIN,
    CEREBRAL_HEMORRHAGE,
    COMMENT,
    COMPONENT_COUNT,
    CT_UNSPECIFIED_REGION,
    INTRACRANIAL_HEMORRHAGE,
    LEFT,
    LENIENT,
    LONG_AXIS,
    MAXIMUM,
    MILLILITER,
    MILLIMETER,
    NO,
    NO_UNITS,
    NOT_ANALYSED_REASON,
    OWN_SCHEME,
    RIGHT,
    SHORT_AXIS,
    SQUARE_MILLIMETER,
    STRICT,
    TYPE_VOLUMES,
    VOLUME,
    VOLUME_LENIENT,
    VOLUME_STRICT,
    YES,
)
from ichnode.results.provenance import Provenance, Result, Role
from ichnode.results.structured_report import (
    Group,
    algorithm,
    append_model_statements,
    append_text,
    compose_document,
    compose_report,
    evaluation,
    measurement,
    observer,
    plain_image_library,
    research_use,
)

_IN_THE_BRAIN = {HemorrhageType.IPH, HemorrhageType.IVH}


def finding_sites(side: Side | None) -> list[FindingSite]:
    """The brain, with a laterality where the hematoma is on one side."""
    laterality = {Side.LEFT: LEFT, Side.RIGHT: RIGHT}.get(side) if side else None
    return [FindingSite(anatomic_location=BRAIN, laterality=laterality)]


def finding_type(hematoma: Hematoma) -> Code:
    """Cerebral hemorrhage, or intracranial where some of the blood lies around the brain."""
    return CEREBRAL_HEMORRHAGE if _is_in_the_brain(hematoma) else INTRACRANIAL_HEMORRHAGE


def hematoma_name(hematoma: Hematoma | None) -> str:
    """What the hematoma, or the search for one, is called and tracked as."""
    return "Intracerebral hematoma" if hematoma is None or _is_in_the_brain(hematoma) else "Intracranial hematoma"


def _is_in_the_brain(hematoma: Hematoma) -> bool:
    return {part.type for part in hematoma.parts} <= _IN_THE_BRAIN


def compose_measurement_report(
    findings: Findings,
    *,
    key_slices: Sequence[Dataset],
    segmentation: Dataset | None,
    evidence: Sequence[Dataset],
    provenance: Provenance,
) -> Result:
    """The measurements of the hematoma, or the statement that none was found.

    `key_slices` are the headers that the Image Library lists; segment 1 of `segmentation` is what was measured.
    """
    group = _group(findings, key_slices, segmentation, provenance)
    if findings.hematoma is None:
        append_text(group[0], COMMENT, "No hematoma was found. This does not rule out hemorrhage.")
    for caveat in findings.caveats:
        append_text(group[0], COMMENT, f"{caveat}.")
    append_model_statements(group[0], findings.model)
    return compose_report(
        [group], role=Role.MEASUREMENT_REPORT, library=key_slices, evidence=evidence, provenance=provenance
    )


def _group(
    findings: Findings, key_slices: Sequence[Dataset], segmentation: Dataset | None, provenance: Provenance
) -> Group:
    hematoma, model = findings.hematoma, findings.model
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=provenance.uid("tracking", "hematoma"), identifier=hematoma_name(hematoma)
        ),
        "finding_category": ALTERED_STRUCTURE if hematoma else None,
        "finding_type": finding_type(hematoma) if hematoma else None,
        "finding_sites": finding_sites(hematoma.side if hematoma else None),
        "algorithm_id": algorithm(model),
        "measurements": hematoma_measurements(hematoma, model) if hematoma else None,
        "qualitative_evaluations": [_presence(hematoma), research_use()],
    }
    if hematoma and segmentation is not None:
        segment = ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=1,
            source_series=SourceSeriesForSegmentation(key_slices[0].SeriesInstanceUID),
        )
        return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)
    return MeasurementsAndQualitativeEvaluations(source_images=source_images(key_slices), **common)


def _presence(hematoma: Hematoma | None) -> QualitativeEvaluation:
    return evaluation(finding_type(hematoma), YES) if hematoma else evaluation(CEREBRAL_HEMORRHAGE, NO)


def source_images(headers: Sequence[Dataset]) -> list[SourceImageForMeasurementGroup]:
    """References to the instances of `headers`, each instance once."""
    instances = dict.fromkeys((header.SOPClassUID, header.SOPInstanceUID) for header in headers)
    return [SourceImageForMeasurementGroup(sop_class, sop_instance) for sop_class, sop_instance in instances]


def hematoma_measurements(hematoma: Hematoma, model: ModelIdentity) -> list[Measurement]:
    """Every number of `hematoma`; the first volume is the one that counts."""
    return [
        measurement(VOLUME, hematoma.volume_ml, MILLILITER, model),
        measurement(VOLUME_STRICT, hematoma.volume_low_ml, MILLILITER, model),
        measurement(VOLUME_LENIENT, hematoma.volume_high_ml, MILLILITER, model),
        measurement(VOLUME, hematoma.abc2_ml, MILLILITER, model, method=ABC2),
        measurement(AREA, hematoma.largest_area_mm2, SQUARE_MILLIMETER, model, derivation=MAXIMUM),
        measurement(LONG_AXIS, hematoma.long_axis_mm, MILLIMETER, model),
        measurement(SHORT_AXIS, hematoma.short_axis_mm, MILLIMETER, model),
        measurement(COMPONENT_COUNT, hematoma.component_count, NO_UNITS, model),
        *(item for part in hematoma.parts for item in _part_measurements(part, model)),
    ]


def _part_measurements(part: HematomaPart, model: ModelIdentity) -> list[Measurement]:
    """The volume of one type of hemorrhage and both ends of its range."""
    concept = TYPE_VOLUMES[part.type]
    return [
        measurement(concept, part.volume_ml, MILLILITER, model),
        measurement(concept, part.volume_low_ml, MILLILITER, model, derivation=STRICT),
        measurement(concept, part.volume_high_ml, MILLILITER, model, derivation=LENIENT),
    ]


def compose_not_analysed_report(
    *, reason: Reason, detail: str, evidence: Sequence[Dataset], provenance: Provenance
) -> Result:
    """A report that says that the series was not analysed, and why, with the series as evidence."""
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=provenance.uid("tracking", "not analysed"), identifier="Head CT not analysed"
        ),
        finding_sites=finding_sites(None),
        qualitative_evaluations=[
            evaluation(ANALYSED, NO),
            evaluation(NOT_ANALYSED_REASON, _reason_code(reason)),
            research_use(),
        ],
        source_images=source_images(evidence[:1]),
    )
    append_text(group[0], COMMENT, f"Not analysed: the series {EXPLAINED[reason]}. {detail}".strip())
    content = MeasurementReport(
        observation_context=observer(provenance),
        procedure_reported=CT_UNSPECIFIED_REGION,
        imaging_measurements=[group],
    )[0]
    first = (evidence[0].SOPClassUID, evidence[0].SOPInstanceUID)
    content.ContentSequence.insert(len(content.ContentSequence) - 1, plain_image_library([first]))
    return compose_document(content, role=Role.MEASUREMENT_REPORT, evidence=evidence, provenance=provenance)


def _reason_code(reason: Reason) -> Code:
    return Code(reason.upper(), OWN_SCHEME, reason.replace("_", " ").capitalize())
