"""Spec: what one simulated patient has, in numbers; images are painted from it and labels are read from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One hemorrhage. `volume_ml` 0 with `followup_ml` above 0 is blood that is new at follow-up."""

    type: str  # one of training.simulate.space.TYPES
    site: str  # one of SITES[type]
    side: int  # -1 right, +1 left, 0 both sides or midline
    volume_ml: float
    followup_ml: float
    age_h: float  # hours since this blood left the vessel, at the first CT; an old subdural may have weeks
    irregularity: float = 0.0  # 0 round and smooth, 1 lobulated
    satellites: int = 0  # separate small hematomas around it; three or more is the island sign
    blend: bool = False
    swirl: bool = False
    black_hole: bool = False
    fluid_level: bool = False
    edema_ml: float = 0.0
    followup_edema_ml: float = 0.0


SITES = {
    "IPH": ("putamen", "thalamus", "caudate", "lobar", "cerebellum", "brainstem"),
    "IVH": ("ventricles",),
    "SAH": ("cisterns", "convexity"),
    "SDH": ("convexity", "falx", "tentorium"),
    "EDH": ("convexity",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """Growth of parenchymal blood by the follow-up CT, and what the model knew of it beforehand."""

    probability: float  # of conventional expansion: 6 mL or 33 % and more
    conventional: bool  # it came to pass
    revised: bool  # conventional, or intraventricular blood 1 mL and more larger or new
    growth_ml: float  # of all parenchymal hematomas together


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the patient, and the probabilities it was drawn with."""

    ich_score: int | None  # 0-6 (Hemphill 2001); None but for spontaneous parenchymal hemorrhage
    func_score: int | None  # 0-11 (Rost 2008); likewise
    death_30d_probability: float
    death_30d: bool
    poor_90d_probability: float  # of a modified Rankin scale of 4-6 at 90 days
    poor_90d: bool
    mrs_90d: int  # 0-6
    low_gcs_probability: float  # of GCS 8 or less, from everything but the GCS itself


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSpec:
    """One patient at the first CT, at follow-up and at 90 days."""

    seed: int
    kind: str  # one of training.simulate.population.KINDS
    age: float  # years
    sex: str  # F or M
    onset_to_ct_h: float
    followup_h: float  # hours from the first CT to the follow-up CT
    systolic_mmhg: float
    anticoagulant: bool
    antiplatelet: bool
    hematocrit: float  # fraction
    gcs: int  # 3-15
    lesions: tuple[Lesion, ...]
    staining_ml: float  # contrast left in infarcted tissue after thrombectomy: bright, but not hemorrhage
    staining_side: int  # -1 right, +1 left, 0 none
    thrombectomy_hemorrhage: bool | None  # hemorrhage on the follow-up CT; None without a thrombectomy
    thrombectomy_hemorrhage_probability: float | None  # of it, given all that is known at the first CT
    expansion: Expansion
    outcome: Outcome
