"""Cohort: each simulated patient in numbers, from a seed."""

from training.simulate.clinical import arrival, outcome
from training.simulate.draw import Draw
from training.simulate.expansion import course
from training.simulate.lesions import bleeding
from training.simulate.population import person
from training.simulate.spec import PatientSpec

# the first of each; no training run gets to the second, none but evaluations to the third
TRAINING_SEEDS, VALIDATION_SEEDS, EVALUATION_SEEDS = 1_000_000, 900_000_000, 950_000_000


def patient_spec(seed: int, kind: str | None = None) -> PatientSpec:
    """The patient of a seed; `kind` (one of population.KINDS) instead of one drawn by share."""
    draw = Draw(seed=seed)
    who = person(draw, kind)
    bled = bleeding(who, draw)
    came = arrival(who, bled.lesions, draw)
    became = course(who, bled.lesions, draw)
    late = any(lesion.type == "IPH" for lesion in bled.lesions)
    return PatientSpec(
        seed=seed,
        kind=who.kind,
        age=who.age,
        sex=who.sex,
        onset_to_ct_h=who.onset_to_ct_h,
        followup_h=who.followup_h,
        systolic_mmhg=who.systolic_mmhg,
        anticoagulant=who.anticoagulant,
        antiplatelet=who.antiplatelet,
        hematocrit=who.hematocrit,
        gcs=came.gcs,
        lesions=became.lesions,
        staining_ml=bled.staining_ml,
        staining_side=bled.staining_side,
        thrombectomy_hemorrhage=late if who.kind == "thrombectomy" else None,
        thrombectomy_hemorrhage_probability=bled.late_probability,
        expansion=became.expansion,
        outcome=outcome(who, became, came, draw),
    )
