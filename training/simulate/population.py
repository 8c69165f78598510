"""Population: who the patients are and in what proportions their kinds of hemorrhage occur.

Every number is listed with its source, or as assumed, in docs/simulator-sources.md.
"""

import math
from dataclasses import dataclass

from training.simulate.draw import Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of patient: its share of the population and the people it befalls."""

    share: float
    age: tuple[float, float]  # mean and deviation, years
    women: float  # share
    onset_h: float  # median of the log-normal time from onset to the first CT
    systolic: tuple[float, float] = (145.0, 24.0)  # mean and deviation, mmHg


KINDS = {
    "normal": Kind(share=0.14, age=(58, 20), women=0.5, onset_h=4.0),
    "iph": Kind(share=0.40, age=(68, 13), women=0.46, onset_h=2.5, systolic=(171, 30)),
    "ivh": Kind(share=0.02, age=(62, 15), women=0.5, onset_h=4.0, systolic=(165, 30)),
    "sah": Kind(share=0.07, age=(56, 13), women=0.62, onset_h=4.0, systolic=(155, 28)),
    "sah_traumatic": Kind(share=0.04, age=(60, 20), women=0.4, onset_h=2.0),
    "sdh": Kind(share=0.12, age=(74, 13), women=0.37, onset_h=6.0),
    "edh": Kind(share=0.04, age=(35, 16), women=0.25, onset_h=2.0),
    "trauma": Kind(share=0.09, age=(55, 20), women=0.3, onset_h=2.0),
    "thrombectomy": Kind(share=0.08, age=(71, 13), women=0.5, onset_h=5.0),
}
ONSET_SPREAD = 0.8  # deviation of the logarithm of the hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A patient before anything is known of the hemorrhage."""

    kind: str
    age: float
    sex: str
    onset_to_ct_h: float
    followup_h: float
    systolic_mmhg: float
    anticoagulant: bool
    antiplatelet: bool
    hematocrit: float
    cognitive_impairment: bool  # before the hemorrhage; the FUNC score asks

    @property
    def lateness(self) -> float:
        """Onset-to-CT time in deviations from the usual time of this kind of patient, about standard normal."""
        return math.log(self.onset_to_ct_h / KINDS[self.kind].onset_h) / ONSET_SPREAD


def person(draw: Draw, kind: str | None = None) -> Person:
    """One patient of a kind, or of a kind drawn by share."""
    kind = kind or draw.choice("spec.kind", list(KINDS), [k.share for k in KINDS.values()])
    of = KINDS[kind]
    age = _within(18, draw.normal("spec.age", *of.age), 98)
    sex = "F" if draw.chance("spec.sex", of.women) else "M"
    onset_h = of.onset_h * math.exp(ONSET_SPREAD * draw.normal("spec.onset"))
    treated = logistic((age - 70) / 12)  # medication and cognitive impairment become common with age
    return Person(
        kind=kind,
        age=round(age, 1),
        sex=sex,
        onset_to_ct_h=_within(0.4, onset_h, 24),
        followup_h=_within(12, draw.normal("spec.followup", 24, 5), 48),
        systolic_mmhg=round(_within(90, draw.normal("spec.systolic", *of.systolic), 260)),
        anticoagulant=draw.chance("spec.anticoagulant", 0.25 * treated),
        antiplatelet=draw.chance("spec.antiplatelet", 0.45 * treated),
        hematocrit=_within(0.22, draw.normal("spec.hematocrit", 0.39 if sex == "F" else 0.43, 0.045), 0.55),
        cognitive_impairment=draw.chance("spec.cognition", 0.3 * treated),
    )


def logistic(logit: float) -> float:
    """Probability of a logit."""
    return 1 / (1 + math.exp(-logit))


def _within(low: float, value: float, high: float) -> float:
    return min(max(value, low), high)
