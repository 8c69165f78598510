"""What is said about a patient: findings with measurements, estimates with intervals, and which model says so."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model said it; stands in every result object."""

    name: str
    version: str
    weights_sha256: str
    family: str  # "classical" or "neural network"
    trained_on: str  # "nothing", "simulated patients" or the name of a clinical cohort
    intended_use: str = "Research use only - not for clinical use"

    @classmethod
    def as_stored(cls, said: Mapping[str, Any]) -> "ModelIdentity":
        """From a row that any version of ichnode wrote; a hyphen, which any object can hold, for what it lacks."""
        return cls(**{field.name: str(said.get(field.name, "-")) for field in fields(cls)})


class Side(StrEnum):
    """Patient side of a finding's centroid."""

    LEFT = "left"
    RIGHT = "right"
    MIDLINE = "midline"
    UNTOLD = "not told"  # half a head has no midline


class HemorrhageType(StrEnum):
    """Where the blood is."""

    IPH = "IPH"  # intraparenchymal
    IVH = "IVH"  # intraventricular
    SAH = "SAH"  # subarachnoid
    SDH = "SDH"  # subdural
    EDH = "EDH"  # epidural


@dataclass(frozen=True, slots=True, kw_only=True)
class HematomaPart:
    """All blood of one type in a hematoma. Volumes as those of the hematoma; those of all parts add up to them."""

    type: HemorrhageType
    volume_ml: float
    volume_low_ml: float
    volume_high_ml: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hematoma:
    """The hematoma of one head CT, all its components together, measured on the acquisition grid."""

    volume_ml: float  # voxels x area x real slice extent
    volume_low_ml: float  # the same at the model's strict threshold
    volume_high_ml: float  # the same at the model's lenient threshold
    abc2_ml: float  # A x B x C / 2 (Kothari 1996), all components
    probability: float  # highest voxel probability inside
    side: Side
    component_count: int
    largest_slice_uid: str  # SOP Instance UID of the slice with the largest area
    largest_area_mm2: float
    long_axis_mm: float  # A: longest in-plane diameter on that slice
    short_axis_mm: float  # B: longest diameter perpendicular to A
    parts: tuple[HematomaPart, ...] = ()  # by type, largest first; none where the model tells no types apart


class Caveat(StrEnum):
    """What limits all numbers about one series, in the words that stand in its results."""

    EIGHT_BIT = "HU estimated from an 8-bit export"
    LOST_OFFSET = "HU estimated: stored values are taken to be 1024 too high"
    NO_RESCALE = "HU assumed: the header has no rescale slope and intercept"
    CUT_OFF_ABOVE = "The top of the brain is not in the images: blood there is not seen"
    CUT_OFF_BELOW = "The lower part of the brain is not in the images: blood there is not seen"
    CUT_OFF_ASIDE = "The images do not reach across the whole brain: blood beyond them is not seen"
    STAINING = "Described as after thrombectomy: contrast and blood look alike, either may be taken for the other"


class EstimateName(StrEnum):
    """Patient-level quantities that a model may predict."""

    EXPANSION_PROBABILITY = "expansion_probability"  # percent, within 24 h, of 6 mL or 33 % and more
    EXPANSION_3_ML_PROBABILITY = "expansion_3_ml_probability"  # percent, within 24 h, of 3 mL and more
    PREDICTED_VOLUME = "predicted_volume"  # mL at 24 h
    VOLUME_CHANGE = "volume_change"  # mL, predicted minus now
    LATE_HEMORRHAGE_PROBABILITY = "late_hemorrhage_probability"  # percent, on the next CT; its note says what counts
    POOR_OUTCOME_PROBABILITY = "poor_outcome_probability"  # percent, at 90 days; its note says what is poor
    DEATH_PROBABILITY = "death_probability"  # percent, 30 days
    VOLUME_WITHOUT_OUTLINE = "volume_without_outline"  # mL now, of a network that outlines nothing
    LOW_GCS_PROBABILITY = "low_gcs_probability"  # percent, Glasgow Coma Scale 8 or less, estimated from the image
    AGE_80_PROBABILITY = "age_80_probability"  # percent, estimated from the image


class RiskClass(StrEnum):
    """How likely expansion is, as a class."""

    LOW = "low risk"
    MODERATE = "moderate risk"
    HIGH = "high risk"


class GcsCategory(StrEnum):
    """The Glasgow Coma Scale in three categories."""

    MILD = "GCS 13-15"
    MODERATE = "GCS 9-12"
    SEVERE = "GCS 3-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One predicted quantity with its interval, in the unit that its name fixes. None: the model abstained."""

    name: EstimateName
    value: float | None
    low: float | None = None
    high: float | None = None
    category: RiskClass | GcsCategory | None = None  # the same in one word
    note: str = ""  # why it abstained, or what limits it


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimates:
    """What one model predicts of one patient."""

    model: ModelIdentity
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is said about one series. `hematoma` None: none was found."""

    model: ModelIdentity  # that looked for it
    hematoma: Hematoma | None
    predictions: tuple[ModelEstimates, ...] = ()
    caveats: tuple[Caveat, ...] = ()

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """All that said something."""
        return tuple(dict.fromkeys((self.model, *(said.model for said in self.predictions))))
