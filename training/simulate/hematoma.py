"""Hematoma: size, site, shape and density signs of the parenchymal hemorrhages.

Every number is listed with its source, or as assumed, in docs/simulator-sources.md.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

from training.simulate.draw import Draw
from training.simulate.population import Person
from training.simulate.spec import SITES, Lesion

NORMAL = NormalDist()

VOLUME_ML = ((0.0, 0.05), (0.05, 0.3), (0.25, 1.7), (0.5, 6.3), (0.75, 15.0), (0.95, 46.0), (1.0, 111.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Territory:
    """A place where parenchymal hematomas arise."""

    share: float  # of the very small hematomas; large ones avoid the places that cannot hold them
    most_ml: float  # the place holds no more
    ventricles: float  # chance of blood in the ventricles with a hematoma of 6.3 mL


TERRITORIES = {
    "putamen": Territory(share=0.33, most_ml=150, ventricles=0.30),
    "thalamus": Territory(share=0.18, most_ml=45, ventricles=0.65),
    "caudate": Territory(share=0.05, most_ml=25, ventricles=0.75),
    "lobar": Territory(share=0.30, most_ml=200, ventricles=0.15),
    "cerebellum": Territory(share=0.09, most_ml=60, ventricles=0.35),
    "brainstem": Territory(share=0.09, most_ml=14, ventricles=0.30),
}

SIGNS = {"blend": 0.18, "swirl": 0.30, "black_hole": 0.14, "island": 0.16}  # share of hematomas that show each
SIGN_COUPLING = 0.5  # correlation of each sign with the unrest of the hematoma
SIGNS_FROM_ML = 1.5  # in smaller ones no sign can be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Volume of all parenchymal blood of a patient, and its rank among patients in normal deviations."""

    ml: float
    rank: float


def volume_ml(quantile: float) -> float:
    """Volume at a quantile of the patients, log-linear between the known percentiles."""
    for (q0, ml0), (q1, ml1) in pairwise(VOLUME_ML):
        if quantile <= q1:
            return float(ml0 * (ml1 / ml0) ** ((quantile - q0) / (q1 - q0)))
    return VOLUME_ML[-1][1]


def size(draw: Draw) -> Size:
    """How much a patient with parenchymal hemorrhage has bled."""
    rank = draw.normal("spec.iph.rank")
    return Size(ml=volume_ml(NORMAL.cdf(rank)), rank=rank)


def site(draw: Draw, ml: float, age: float, among: tuple[str, ...] = SITES["IPH"]) -> str:
    """Where a hematoma of this volume is; lobar more often with age (amyloid angiopathy)."""
    weights = [TERRITORIES[s].share * max(1 - ml / TERRITORIES[s].most_ml, 0) for s in among]
    weights[among.index("lobar")] *= math.exp(0.025 * (age - 68))
    return draw.choice("spec.iph.site", among, weights)


def hematoma(person: Person, draw: Draw, place: str, side: int, ml: float, rank: float, part: int = 0) -> Lesion:
    """One hematoma. A hidden unrest, more in large and early ones, makes its signs and irregularity occur together."""
    named = f"spec.iph{part}"
    unrest = 0.45 * rank - 0.25 * person.lateness + 0.857 * draw.normal(f"{named}.unrest")

    def shows(sign: str) -> bool:
        level = NORMAL.inv_cdf(SIGNS[sign]) + SIGN_COUPLING * unrest
        probability = NORMAL.cdf(level / math.sqrt(1 - SIGN_COUPLING**2))
        return ml >= SIGNS_FROM_ML and draw.chance(f"{named}.{sign}", probability)

    irregularity = NORMAL.cdf(0.6 * unrest + 0.8 * draw.normal(f"{named}.irregularity"))
    few = draw.choice(f"{named}.few", (0, 1, 2), (1.5 - irregularity, irregularity / 2, irregularity / 4))
    many = draw.choice(f"{named}.many", (3, 4, 5, 6))
    edema_ml = 0.45 * ml * (max(ml, 1) / 12) ** -0.15 * math.exp(0.35 * draw.normal(f"{named}.edema"))
    edema_ml *= (person.onset_to_ct_h / 2) ** 0.3
    return Lesion(
        type="IPH",
        site=place,
        side=side,
        volume_ml=ml,
        followup_ml=ml,
        age_h=person.onset_to_ct_h,
        irregularity=irregularity,
        satellites=many if shows("island") else few if ml >= SIGNS_FROM_ML else 0,
        blend=shows("blend"),
        swirl=shows("swirl"),
        black_hole=shows("black_hole"),
        fluid_level=ml >= 3 and draw.chance(f"{named}.level", 0.12 if person.anticoagulant else 0.01),
        edema_ml=edema_ml,
        followup_edema_ml=edema_ml,
    )
