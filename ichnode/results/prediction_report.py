"""SR-B: patient-level predictions (TID 1501), one group for each point in time that they speak of.

A value with an interval is three NUM items: the value, and the bounds under a derivation that says so. Where the model
abstained, the NUM has no value but a qualifier (CID 42), and the reason as a comment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.sr import (
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    TextContentItem,
    TimePointContext,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ichnode.domain.findings import Estimate, EstimateName, ModelIdentity
from ichnode.results.concepts import (
    AGE_80_PROBABILITY,
    COMMENT,
    DEATH_PROBABILITY,
    ESTIMATED,
    ESTIMATED_LOWER,
    ESTIMATED_UPPER,
    EXPANSION_PROBABILITY,
    GLASGOW_COMA_SCORE,
    MILLILITER,
    NOT_ATTEMPTED,
    PERCENT,
    POOR_OUTCOME_PROBABILITY,
    PREDICTED,
    PREDICTED_LOWER,
    PREDICTED_UPPER,
    PREDICTED_VOLUME,
    SCORE,
    VOLUME_CHANGE,
)
from ichnode.results.measurement_report import finding_sites, source_images
from ichnode.results.provenance import Provenance, Result, Role
from ichnode.results.structured_report import (
    algorithm,
    append_model_statements,
    compose_report,
    measurement,
    research_use,
)

_PREDICTED = (PREDICTED, PREDICTED_LOWER, PREDICTED_UPPER)
_ESTIMATED = (ESTIMATED, ESTIMATED_LOWER, ESTIMATED_UPPER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """How an estimate is encoded."""

    concept: Code
    unit: Code
    time_point: str
    derivations: tuple[Code, Code, Code] = _PREDICTED  # of the value, the lower and the upper bound


MEANINGS: dict[EstimateName, Meaning] = {
    EstimateName.EXPANSION_PROBABILITY: Meaning(
        concept=EXPANSION_PROBABILITY, unit=PERCENT, time_point="24 h predicted"
    ),
    EstimateName.PREDICTED_VOLUME: Meaning(concept=PREDICTED_VOLUME, unit=MILLILITER, time_point="24 h predicted"),
    EstimateName.VOLUME_CHANGE: Meaning(concept=VOLUME_CHANGE, unit=MILLILITER, time_point="24 h predicted"),
    EstimateName.POOR_OUTCOME_PROBABILITY: Meaning(
        concept=POOR_OUTCOME_PROBABILITY, unit=PERCENT, time_point="90 d predicted"
    ),
    EstimateName.DEATH_PROBABILITY: Meaning(concept=DEATH_PROBABILITY, unit=PERCENT, time_point="30 d predicted"),
    EstimateName.GCS: Meaning(
        concept=GLASGOW_COMA_SCORE, unit=SCORE, time_point="time of the CT", derivations=_ESTIMATED
    ),
    EstimateName.AGE_80_PROBABILITY: Meaning(
        concept=AGE_80_PROBABILITY, unit=PERCENT, time_point="time of the CT", derivations=_ESTIMATED
    ),
}


def compose_prediction_report(
    estimates: tuple[Estimate, ...],
    *,
    model: ModelIdentity,
    key_slices: Sequence[Dataset],
    evidence: Sequence[Dataset],
    provenance: Provenance,
) -> Result:
    """All `estimates` of `model`; `key_slices` are the headers that the Image Library lists."""
    time_points = dict.fromkeys(MEANINGS[estimate.name].time_point for estimate in estimates)
    groups = [
        _group(
            time_point,
            tuple(e for e in estimates if MEANINGS[e.name].time_point == time_point),
            model=model,
            key_slices=key_slices,
            provenance=provenance,
        )
        for time_point in time_points
    ]
    return compose_report(
        groups, role=Role.PREDICTION_REPORT, library=key_slices, evidence=evidence, provenance=provenance
    )


def _group(
    time_point: str,
    estimates: tuple[Estimate, ...],
    *,
    model: ModelIdentity,
    key_slices: Sequence[Dataset],
    provenance: Provenance,
) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=provenance.uid("tracking", "estimates", time_point), identifier=f"Estimates, {time_point}"
        ),
        time_point_context=TimePointContext(time_point=time_point),
        finding_sites=finding_sites(None),
        algorithm_id=algorithm(model),
        measurements=[item for estimate in estimates for item in _measurements(estimate, model)],
        qualitative_evaluations=[research_use()],
        source_images=source_images(key_slices),
    )
    append_model_statements(group[0], model)
    return group


def _measurements(estimate: Estimate, model: ModelIdentity) -> list[Measurement]:
    """The value and its bounds, or one NUM without a value."""
    meaning = MEANINGS[estimate.name]
    stated = [
        measurement(meaning.concept, value, meaning.unit, model, derivation=derivation)
        for value, derivation in zip((estimate.value, estimate.low, estimate.high), meaning.derivations, strict=True)
        if value is not None and estimate.value is not None
    ]
    if not stated:
        stated = [_without_value(meaning, model)]
    if estimate.note:
        comment = TextContentItem(name=COMMENT, value=estimate.note, relationship_type="HAS PROPERTIES")
        stated[0][0].ContentSequence.append(comment)
    return stated


def _without_value(meaning: Meaning, model: ModelIdentity) -> Measurement:
    abstention = Measurement(
        name=meaning.concept,
        value=0,
        unit=meaning.unit,
        qualifier=NOT_ATTEMPTED,
        algorithm_id=algorithm(model),
        derivation=meaning.derivations[0],
    )
    abstention[0].MeasuredValueSequence = []
    return abstention
