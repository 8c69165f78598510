"""Expansion: how much each hemorrhage has grown on the follow-up CT, and how likely that was.

Every number is listed with its source, or as assumed, in docs/simulator-sources.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from training.simulate.draw import Draw
from training.simulate.population import Person, logistic
from training.simulate.spec import Expansion, Lesion

BRAIN_POINT = (math.log(0.858 / 0.142) - math.log(0.034 / 0.966)) / 24  # log odds of one point (Wang 2015): 0.214
INTERCEPT = -1.6  # set for about 27 % expansion
EARLY_HOURS = 5.0  # BRAIN gives a point for each hour earlier than this
LATE_HOUR = -0.03
ANTICOAGULANT = math.log(3.48)
ANTIPLATELET = math.log(1.68)
VENTRICLES = 2 * BRAIN_POINT
PER_DOUBLING = 0.05  # of the volume
PER_10_MMHG = 0.05  # above 150 mmHg
# half of the logarithm of the pooled odds ratio (Morotti 2020): the signs occur together, the pooled ratios are alone
BLEND, BLACK_HOLE, SWIRL, ISLAND = (math.log(ratio) / 2 for ratio in (3.49, 3.70, 3.33, 7.87))
IRREGULAR = math.log(2.01)  # from the smoothest to the most irregular

LARGEST_ML = 160.0  # no hematoma outgrows it
NEW_VENTRICULAR = {True: 0.40, False: 0.12}  # chance of 1 mL more in the ventricles, with and without expansion
OTHER_GROWTH = {"SDH": 0.20, "EDH": 0.25, "SAH": 0.05}  # chance that fresh blood outside the parenchyma grows


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The lesions with their follow-up volumes, and the expansion they amount to."""

    lesions: tuple[Lesion, ...]
    expansion: Expansion


def threshold_ml(volume_ml: float) -> float:
    """Growth from which an expansion is called one: 33 %, or 6 mL if that is less."""
    return min(6.0, 0.33 * volume_ml)


def expansion_probability(person: Person, lesions: Sequence[Lesion]) -> float:
    """Of conventional expansion of the parenchymal hematomas that the first CT shows; 0 without one."""
    seen = [lesion for lesion in lesions if lesion.type == "IPH" and lesion.volume_ml > 0]
    if not seen:
        return 0.0
    largest = max(seen, key=lambda lesion: lesion.volume_ml)
    early_h = min(person.onset_to_ct_h, EARLY_HOURS)
    logit = INTERCEPT - BRAIN_POINT * early_h + LATE_HOUR * (person.onset_to_ct_h - early_h)
    logit += ANTICOAGULANT * person.anticoagulant + ANTIPLATELET * person.antiplatelet
    logit += VENTRICLES * any(lesion.type == "IVH" for lesion in lesions)
    logit += PER_DOUBLING * math.log2(sum(lesion.volume_ml for lesion in seen) / 6.3)
    logit += PER_10_MMHG * max(person.systolic_mmhg - 150, 0) / 10
    return logistic(logit + _signs(largest))


def _signs(lesion: Lesion) -> float:
    """Log odds that the density signs and the shape of a hematoma add."""
    island = lesion.satellites >= 3
    shown = BLEND * lesion.blend + BLACK_HOLE * lesion.black_hole + SWIRL * lesion.swirl + ISLAND * island
    return shown + IRREGULAR * (lesion.irregularity - 0.5)


def course(person: Person, lesions: Sequence[Lesion], draw: Draw) -> Course:
    """What the lesions have become by the follow-up CT; nothing shrinks within that time."""
    probability = expansion_probability(person, lesions)
    conventional = draw.chance("spec.expansion", probability)
    before = sum(lesion.volume_ml for lesion in lesions if lesion.type == "IPH")
    growth_ml = _growth_ml(before, conventional, draw) if before else 0.0
    later = [_grown(lesion, growth_ml / before if before else 0.0, person, draw) for lesion in lesions]
    more_ml = 0.0
    if before and draw.chance("spec.ventricular_growth", NEW_VENTRICULAR[conventional]):
        more_ml = min(1 + 3 * math.exp(0.9 * draw.normal("spec.ventricular_ml")), 30)
        later = _with_more_in_ventricles(later, more_ml, person)
    expansion = Expansion(
        probability=probability,
        conventional=conventional,
        revised=conventional or more_ml >= 1,
        growth_ml=growth_ml,
    )
    return Course(lesions=tuple(later), expansion=expansion)


def _growth_ml(before: float, conventional: bool, draw: Draw) -> float:
    """Above the threshold by a log-normal factor with expansion, else mostly near nothing and always below it."""
    if conventional:
        factor = math.exp(1.2 * abs(draw.normal("spec.growth")))
        return max(min(threshold_ml(before) * factor, LARGEST_ML - before), threshold_ml(before))
    return threshold_ml(before) * 0.95 * math.pow(draw.uniform("spec.growth"), 2.5)


def _grown(lesion: Lesion, share: float, person: Person, draw: Draw) -> Lesion:
    """A lesion at follow-up; `share` is the relative growth of the parenchymal blood."""
    if lesion.type == "IPH":
        followup_ml = lesion.followup_ml + share * lesion.volume_ml
        edema_ml = lesion.followup_edema_ml * (1 + share) * math.exp(0.35 + 0.2 * draw.normal("spec.edema_growth"))
        return replace(lesion, followup_ml=followup_ml, followup_edema_ml=max(edema_ml, lesion.edema_ml))
    name = f"spec.{lesion.type}.{lesion.site}.{lesion.side}.growth"
    chance = OTHER_GROWTH.get(lesion.type, 0.0) * (1.5 if person.anticoagulant else 1.0)
    if lesion.age_h <= 24 and draw.chance(name, chance):
        return replace(lesion, followup_ml=lesion.volume_ml * draw.uniform(f"{name}.factor", 1.1, 1.6))
    return lesion


def _with_more_in_ventricles(lesions: Sequence[Lesion], more_ml: float, person: Person) -> list[Lesion]:
    """The same lesions with that much more ventricular blood, where there was some or for the first time."""
    if any(lesion.type == "IVH" for lesion in lesions):
        return [replace(x, followup_ml=x.followup_ml + more_ml) if x.type == "IVH" else x for x in lesions]
    new = Lesion(type="IVH", site="ventricles", side=0, volume_ml=0.0, followup_ml=more_ml, age_h=person.onset_to_ct_h)
    return [*lesions, new]
