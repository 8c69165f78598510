"""Lesions: what bled, where and how much, as the first CT of each kind of patient shows it.

Every number is listed with its source, or as assumed, in docs/simulator-sources.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from training.simulate.draw import Draw
from training.simulate.hematoma import TERRITORIES, hematoma, site, size
from training.simulate.population import Person, logistic
from training.simulate.spec import Lesion

# by place: median mL, deviation of the logarithm, largest mL
VOLUME_ML = {
    ("IVH", "ventricles"): (5.0, 1.1, 50.0),
    ("SAH", "cisterns"): (9.0, 0.8, 40.0),
    ("SAH", "convexity"): (2.5, 0.9, 15.0),
    ("SDH", "convexity"): (20.0, 1.1, 160.0),
    ("SDH", "falx"): (4.0, 0.8, 20.0),
    ("SDH", "tentorium"): (4.0, 0.8, 20.0),
    ("EDH", "convexity"): (18.0, 0.9, 100.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bleeding:
    """What the first CT shows; every follow-up volume is still that of the first CT, unless the blood is new then."""

    lesions: tuple[Lesion, ...] = ()
    staining_ml: float = 0.0
    staining_side: int = 0
    late_probability: float | None = None  # of hemorrhage on the follow-up CT, given the first; after thrombectomy only


def bleeding(person: Person, draw: Draw) -> Bleeding:
    """The hemorrhages of a person."""
    if person.kind == "thrombectomy":
        return _thrombectomy(person, draw)
    return Bleeding(lesions=_OF_KIND[person.kind](person, draw))


def _blood(person: Person, draw: Draw, type_: str, place: str, side: int, age_h: float | None = None) -> Lesion:
    """Blood outside the parenchyma."""
    median, spread, most = VOLUME_ML[type_, place]
    ml = median * math.exp(spread * draw.normal(f"spec.{type_}.{place}.{side}"))
    ml = min(max(ml, 0.2), most)
    age_h = person.onset_to_ct_h if age_h is None else age_h
    return Lesion(type=type_, site=place, side=side, volume_ml=ml, followup_ml=ml, age_h=age_h)


def _side(draw: Draw) -> int:
    return draw.choice("spec.side", (-1, 1))


def _iph(person: Person, draw: Draw) -> tuple[Lesion, ...]:
    bled = size(draw)
    place = site(draw, bled.ml, person.age)
    side = 0 if place == "brainstem" else _side(draw)
    lesions = [hematoma(person, draw, place, side, bled.ml, bled.rank)]
    share = TERRITORIES[place].ventricles
    if draw.chance("spec.ivh", logistic(math.log(share / (1 - share)) + 0.45 * math.log(bled.ml / 6.3))):
        lesions.append(_blood(person, draw, "IVH", "ventricles", 0))
    if place == "lobar" and draw.chance("spec.lobar_sah", 0.2):
        lesions.append(_blood(person, draw, "SAH", "convexity", side))
    return tuple(lesions)


def _ivh(person: Person, draw: Draw) -> tuple[Lesion, ...]:
    return (_blood(person, draw, "IVH", "ventricles", 0),)


def _sah(person: Person, draw: Draw) -> tuple[Lesion, ...]:
    lesions = (_blood(person, draw, "SAH", "cisterns", draw.choice("spec.side", (-1, 0, 1))),)
    return lesions + _ivh(person, draw) if draw.chance("spec.ivh", 0.4) else lesions


def _traumatic_sah(person: Person, draw: Draw) -> tuple[Lesion, ...]:
    return (_blood(person, draw, "SAH", "convexity", _side(draw)),)


def _sdh(person: Person, draw: Draw) -> tuple[Lesion, ...]:
    place = draw.choice("spec.sdh.site", ("convexity", "falx", "tentorium"), (0.84, 0.09, 0.07))
    age_h, side = person.onset_to_ct_h, _side(draw)
    old = place == "convexity" and draw.chance("spec.sdh.old", 0.45)
    if old:  # 4 days to 11 weeks
        age_h = 24 * draw.log_uniform("spec.sdh.days", 4, 80)
    lesions = (_blood(person, draw, "SDH", place, side, age_h),)
    if old and draw.chance("spec.sdh.bilateral", 0.2):
        return (*lesions, _blood(person, draw, "SDH", place, -side, age_h))
    return lesions


def _edh(person: Person, draw: Draw) -> tuple[Lesion, ...]:
    return (_blood(person, draw, "EDH", "convexity", _side(draw)),)


def _contusions(person: Person, draw: Draw, side: int) -> tuple[Lesion, ...]:
    bled = size(draw)
    parts = [draw.uniform(f"spec.part{n}", 0.3, 1) for n in range(draw.choice("spec.contusions", (1, 2, 3, 4)))]
    return tuple(
        hematoma(person, draw, "lobar", side if n < 2 else -side, bled.ml * part / sum(parts), bled.rank, n)
        for n, part in enumerate(parts)
    )


def _trauma(person: Person, draw: Draw) -> tuple[Lesion, ...]:
    side = _side(draw)
    lesions: list[Lesion] = []
    if draw.chance("spec.trauma.iph", 0.6):
        lesions.extend(_contusions(person, draw, side))
    if draw.chance("spec.trauma.sdh", 0.6):
        lesions.append(_blood(person, draw, "SDH", "convexity", side))
    if draw.chance("spec.trauma.edh", 0.15):
        lesions.append(_blood(person, draw, "EDH", "convexity", -side))
    if draw.chance("spec.trauma.ivh", 0.12):
        lesions.append(_blood(person, draw, "IVH", "ventricles", 0))
    if not lesions or draw.chance("spec.trauma.sah", 0.7):
        lesions.append(_blood(person, draw, "SAH", "convexity", side))
    return tuple(lesions)


def _thrombectomy(person: Person, draw: Draw) -> Bleeding:
    """More staining, more hemorrhage; half of the hemorrhages are there already under the staining of the first CT."""
    side, amount = _side(draw), draw.normal("spec.staining.amount")
    stained = draw.chance("spec.staining", 0.55)
    probability = logistic(-1.25 + 1.2 * amount) if stained else 0.02
    bleeds, early = draw.chance("spec.bleeds", probability), draw.chance("spec.bleeds_early", 0.5)
    lesions: tuple[Lesion, ...] = ()
    if bleeds:
        bled = size(draw)
        place = site(draw, bled.ml, person.age, ("putamen", "caudate", "lobar"))
        lesion = hematoma(person, draw, place, side, bled.ml, bled.rank)
        lesions = (lesion if early else replace(lesion, volume_ml=0.0, edema_ml=0.0),)
    return Bleeding(
        lesions=lesions,
        staining_ml=min(8 * math.exp(0.9 * amount), 60) if stained else 0.0,
        staining_side=side if stained else 0,
        late_probability=1.0 if bleeds and early else probability / (2 - probability),
    )


_OF_KIND: dict[str, Callable[[Person, Draw], tuple[Lesion, ...]]] = {
    "normal": lambda _person, _draw: (),
    "iph": _iph,
    "ivh": _ivh,
    "sah": _sah,
    "sah_traumatic": _traumatic_sah,
    "sdh": _sdh,
    "edh": _edh,
    "trauma": _trauma,
}
