"""Clinical: consciousness on arrival, the published scores, and what became of the patient.

Every number is listed with its source, or as assumed, in docs/simulator-sources.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.simulate.draw import Draw
from training.simulate.expansion import Course
from training.simulate.hematoma import NORMAL
from training.simulate.population import Person, logistic
from training.simulate.spec import Lesion, Outcome

GCS_PER_ML = {"IVH": 0.12, "SAH": 0.14, "SDH": 0.045, "EDH": 0.05}
GCS_PER_IPH_ML = {"thalamus": 0.16, "brainstem": 0.6, "cerebellum": 0.13}  # elsewhere 0.11
GCS_AT_ONCE = {"thalamus": 0.6, "brainstem": 2.5}
GCS_OF_KIND = {"trauma": 1.0, "sah": 0.6, "thrombectomy": 2.0}
GCS_NOISE = 2.8

ICH_DEATH = (0.0, 0.13, 0.26, 0.72, 0.97, 1.0, 1.0)  # by ICH score, 30 days (Hemphill 2001)
FUNC_INDEPENDENT = (0.0,) * 5 + (0.29,) * 3 + (0.48,) + (0.75,) * 2 + (0.95,)  # survivors by FUNC score (Rost 2008)
GREW, KEPT = 0.9, -0.3  # log odds of disability with and without expansion, at the same score
OTHER_RISK = {"thrombectomy": 1.0, "sah": 1.3}  # log odds beyond age, GCS and volume
INFRATENTORIAL = ("cerebellum", "brainstem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The Glasgow Coma Scale on arrival, and the chance of 8 or less that the CT and the person gave."""

    gcs: int
    low_probability: float


def arrival(person: Person, lesions: Sequence[Lesion], draw: Draw) -> Arrival:
    """Consciousness: lost with the amount of blood and the place of it, and for reasons that no CT shows."""
    mean = 15.2 - GCS_OF_KIND.get(person.kind, 0.0) - 0.01 * (person.age - 65)
    for lesion in lesions:
        if lesion.type == "IPH":
            at_once = GCS_AT_ONCE.get(lesion.site, 0.0) if lesion.volume_ml else 0.0
            mean -= at_once + GCS_PER_IPH_ML.get(lesion.site, 0.11) * lesion.volume_ml
        elif lesion.age_h <= 96:  # the brain gives way to slow collections
            mean -= GCS_PER_ML[lesion.type] * lesion.volume_ml
    noise = 0.5 if person.kind == "normal" else GCS_NOISE
    gcs = min(max(round(mean + noise * draw.normal("spec.gcs")), 3), 15)
    return Arrival(gcs=gcs, low_probability=NORMAL.cdf((8.5 - mean) / noise))


def ich_score(gcs: int, hematoma: Lesion, ventricular: bool, age: float) -> int:
    """0-6 (Hemphill et al., Stroke 2001;32:891-897)."""
    coma = 2 if gcs <= 4 else 1 if gcs <= 12 else 0
    return coma + (hematoma.volume_ml >= 30) + ventricular + (hematoma.site in INFRATENTORIAL) + (age >= 80)


def func_score(gcs: int, hematoma: Lesion, age: float, cognitive_impairment: bool) -> int:
    """0-11, more is better (Rost et al., Stroke 2008;39:2304-2309)."""
    size = 4 if hematoma.volume_ml < 30 else 2 if hematoma.volume_ml <= 60 else 0
    youth = 2 if age < 70 else 1 if age < 80 else 0
    place = 2 if hematoma.site == "lobar" else 0 if hematoma.site in INFRATENTORIAL else 1
    return size + youth + place + 2 * (gcs >= 9) + (not cognitive_impairment)


def outcome(person: Person, course: Course, came: Arrival, draw: Draw) -> Outcome:
    """Death by 30 days and disability at 90: by the scores in spontaneous hemorrhage, else from age, GCS and volume."""
    ich, func = None, None
    lesions, grew = course.lesions, course.expansion
    if person.kind == "iph":
        ventricular = any(lesion.type == "IVH" and lesion.volume_ml > 0 for lesion in lesions)
        ich = ich_score(came.gcs, lesions[0], ventricular, person.age)
        func = func_score(came.gcs, lesions[0], person.age, person.cognitive_impairment)
        death, kept, grown = ICH_DEATH[ich], _disability(func, KEPT), _disability(func, GREW)
    else:
        death, kept = _other_risks(person, lesions, came.gcs)
        grown = kept
    dies = draw.chance("spec.death", death)
    poor = dies or draw.chance("spec.disabled", grown if grew.conventional else kept)
    return Outcome(
        ich_score=ich,
        func_score=func,
        death_30d_probability=death,
        death_30d=dies,
        poor_90d_probability=death + (1 - death) * (grew.probability * grown + (1 - grew.probability) * kept),
        poor_90d=poor,
        mrs_90d=6 if dies else _mrs(poor, draw),
        low_gcs_probability=came.low_probability,
    )


def _disability(func: int, shift: float) -> float:
    """Risk of disability in a survivor with that FUNC score, its log odds shifted."""
    independent = FUNC_INDEPENDENT[func]
    return logistic(math.log((1 - independent) / independent) + shift) if independent else 1.0


def _other_risks(person: Person, lesions: Sequence[Lesion], gcs: int) -> tuple[float, float]:
    """Risks of death, and of disability in survivors, where no score for spontaneous hemorrhage applies."""
    if person.kind == "normal":
        return 0.002, 0.02
    ml = sum(lesion.volume_ml for lesion in lesions)
    worse = 0.28 * (15 - gcs) + 0.035 * (person.age - 60) + 0.012 * ml + OTHER_RISK.get(person.kind, 0.0)
    return logistic(worse - 4.0), logistic(worse - 2.0)


def _mrs(poor: bool, draw: Draw) -> int:
    """Modified Rankin scale of one who lived through the first month."""
    if poor:
        return draw.choice("spec.mrs", (4, 5, 6), (0.55, 0.3, 0.15))
    return draw.choice("spec.mrs", (0, 1, 2, 3), (0.12, 0.26, 0.3, 0.32))
