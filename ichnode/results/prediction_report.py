"""SR-B: patient-level predictions (TID 1501), one group for each model and point in time that they speak of.

A value with an interval is three NUM items: the value, and the bounds under a derivation that says so; a category is a
CODE beside it. Where the model abstained, the NUM has no value but a qualifier (CID 42), and the reason as a comment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.sr import (
    CodeContentItem,
    ContentSequence,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    TextContentItem,
    TimePointContext,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ichnode.domain.findings import Estimate, EstimateName, ModelEstimates, ModelIdentity
from ichnode.results.concepts import (
    AGE_80_PROBABILITY,
    CATEGORIES,
    COMMENT,
    DEATH_PROBABILITY,
    DERIVATION,
    ESTIMATED,
    ESTIMATED_LOWER,
    ESTIMATED_UPPER,
    EXPANSION_3_ML_PROBABILITY,
    EXPANSION_CLASS,
    EXPANSION_PROBABILITY,
    GLASGOW_COMA_SCORE,
    LATE_HEMORRHAGE_PROBABILITY,
    LOW_GCS_PROBABILITY,
    MILLILITER,
    NOT_ATTEMPTED,
    PERCENT,
    POOR_OUTCOME_PROBABILITY,
    PREDICTED,
    PREDICTED_LOWER,
    PREDICTED_UPPER,
    PREDICTED_VOLUME,
    VOLUME_CHANGE,
    VOLUME_WITHOUT_OUTLINE,
)
from ichnode.results.measurement_report import finding_sites, source_images
from ichnode.results.provenance import Provenance, Result, Role
from ichnode.results.structured_report import (
    algorithm,
    append_model_statements,
    compose_report,
    evaluation,
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
    category: Code | None = None  # what its category answers, where it may have one


MEANINGS: dict[EstimateName, Meaning] = {
    EstimateName.EXPANSION_PROBABILITY: Meaning(
        concept=EXPANSION_PROBABILITY, unit=PERCENT, time_point="24 h predicted", category=EXPANSION_CLASS
    ),
    EstimateName.EXPANSION_3_ML_PROBABILITY: Meaning(
        concept=EXPANSION_3_ML_PROBABILITY, unit=PERCENT, time_point="24 h predicted"
    ),
    EstimateName.PREDICTED_VOLUME: Meaning(concept=PREDICTED_VOLUME, unit=MILLILITER, time_point="24 h predicted"),
    EstimateName.VOLUME_CHANGE: Meaning(concept=VOLUME_CHANGE, unit=MILLILITER, time_point="24 h predicted"),
    EstimateName.LATE_HEMORRHAGE_PROBABILITY: Meaning(
        concept=LATE_HEMORRHAGE_PROBABILITY, unit=PERCENT, time_point="24 h predicted"
    ),
    EstimateName.POOR_OUTCOME_PROBABILITY: Meaning(
        concept=POOR_OUTCOME_PROBABILITY, unit=PERCENT, time_point="90 d predicted"
    ),
    EstimateName.DEATH_PROBABILITY: Meaning(concept=DEATH_PROBABILITY, unit=PERCENT, time_point="30 d predicted"),
    EstimateName.VOLUME_WITHOUT_OUTLINE: Meaning(
        concept=VOLUME_WITHOUT_OUTLINE, unit=MILLILITER, time_point="time of the CT", derivations=_ESTIMATED
    ),
    EstimateName.LOW_GCS_PROBABILITY: Meaning(
        concept=LOW_GCS_PROBABILITY,
        unit=PERCENT,
        time_point="time of the CT",
        derivations=_ESTIMATED,
        category=GLASGOW_COMA_SCORE,
    ),
    EstimateName.AGE_80_PROBABILITY: Meaning(
        concept=AGE_80_PROBABILITY, unit=PERCENT, time_point="time of the CT", derivations=_ESTIMATED
    ),
}


def compose_prediction_report(
    predictions: Sequence[ModelEstimates],
    *,
    key_slices: Sequence[Dataset],
    evidence: Sequence[Dataset],
    provenance: Provenance,
) -> Result:
    """What all models predict; `key_slices` are the headers that the Image Library lists."""
    groups = [
        _group(time_point, estimates, model=said.model, key_slices=key_slices, provenance=provenance)
        for said in predictions
        for time_point, estimates in _by_time_point(said.estimates).items()
    ]
    return compose_report(
        groups, role=Role.PREDICTION_REPORT, library=key_slices, evidence=evidence, provenance=provenance
    )


def _by_time_point(estimates: Sequence[Estimate]) -> dict[str, list[Estimate]]:
    found: dict[str, list[Estimate]] = {}
    for estimate in estimates:
        found.setdefault(MEANINGS[estimate.name].time_point, []).append(estimate)
    return found


def _group(
    time_point: str,
    estimates: Sequence[Estimate],
    *,
    model: ModelIdentity,
    key_slices: Sequence[Dataset],
    provenance: Provenance,
) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=provenance.uid("tracking", "estimates", model.name, time_point),
            identifier=f"Estimates of {model.name}, {time_point}",
        ),
        time_point_context=TimePointContext(time_point=time_point),
        finding_sites=finding_sites(None),
        algorithm_id=algorithm(model),
        measurements=[item for estimate in estimates for item in _measurements(estimate, model)],
        qualitative_evaluations=[research_use(), *(_category(each) for each in estimates if each.category)],
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


def _category(estimate: Estimate) -> QualitativeEvaluation:
    meaning = MEANINGS[estimate.name]
    assert meaning.category is not None
    assert estimate.category is not None
    category = evaluation(meaning.category, CATEGORIES[estimate.category])
    derived = CodeContentItem(name=DERIVATION, value=meaning.derivations[0], relationship_type="HAS CONCEPT MOD")
    category[0].ContentSequence = ContentSequence([derived])
    return category


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
