"""Manifest: what a bundle says about itself, one class for each kind of network, and the interface of each kind.

A network is built from the manifest's configuration, or without arguments where it has none. Each kind says what its
`forward` reads and answers; a network that does otherwise is refused when its bundle is loaded.
"""

from datetime import date
from math import exp
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from torch import Tensor, nn

from ichnode.domain.findings import HemorrhageType, ModelIdentity
from ichnode.errors import BundleError

HEMATOMA = "hematoma"  # the class of a network that tells no types apart
_SUREST = 30.0  # logit
_TRIED = (8, 32, 32)  # voxels, z, y, x

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0)]


def _ascending(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError("needs lowest < highest")
    return window


def _told_apart(classes: tuple[str, ...]) -> tuple[str, ...]:
    are_types = set(classes) <= set(HemorrhageType) and 0 < len(classes) == len(set(classes))
    if classes != (HEMATOMA,) and not are_types:
        raise ValueError(f"needs {HEMATOMA} alone, or some of {', '.join(HemorrhageType)}, each once")
    return classes


HuWindow = Annotated[tuple[float, float], AfterValidator(_ascending)]  # lowest, highest HU
Interval = Annotated[tuple[float, float], AfterValidator(_ascending)]


class Thresholds(BaseModel):
    """Probabilities from which a voxel counts as hematoma: as reported, and for the ends of the volume range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    found: Fraction
    strict: Fraction
    lenient: Fraction

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lenient <= self.found <= self.strict:
            raise ValueError("needs lenient <= found <= strict")
        return self


class Manifest(BaseModel):
    """What all kinds say. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]  # also the name of its folder
    version: Annotated[str, Field(min_length=1)]
    architecture: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*$")]  # module:class in models
    configuration: dict[str, Any] | None = None  # values of the dataclass that the class is built from
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    family: Annotated[str, Field(pattern=r"^(classical|neural network)$")]
    trained_on: Annotated[str, Field(min_length=1)]
    intended_use: Annotated[str, Field(min_length=1)]
    grid_spacing_mm: tuple[Positive, Positive, Positive]  # z, y, x
    created: date
    reference: str  # paper, or why there is none

    @property
    def identity(self) -> ModelIdentity:
        """What stands in the results."""
        return ModelIdentity(
            name=self.name,
            version=self.version,
            weights_sha256=self.weights_sha256,
            family=self.family,
            trained_on=self.trained_on,
            intended_use=self.intended_use,
        )

    def complaint(self, network: nn.Module) -> str | None:
        """Show the network a little: what is wrong with its answer. Raises what the network raises."""
        raise NotImplementedError

    def must_answer(self, pipeline: str) -> None:
        """Raises BundleError where it does not say what a pipeline needs that runs its kind."""


class SegmenterManifest(Manifest):
    """`forward(x_bcdhw) -> probability_bcdhw` on the canonical grid, of any size.

    x holds one channel of HU, or one from 0 to 1 for each window; the probability one for each class, classes that
    exclude each other.
    """

    kind: Literal["segmenter"]
    windows: tuple[HuWindow, ...]  # one channel for each; none: one channel of raw HU
    classes: Annotated[tuple[str, ...], AfterValidator(_told_apart)] = (HEMATOMA,)  # channels of the network, in order
    second_look: bool = False  # left and right flipped, on a grid half a voxel off; the mean of both answers counts
    thresholds: Thresholds
    min_volume_ml: Annotated[float, Field(ge=0)]  # smaller components are dropped

    def complaint(self, network: nn.Module) -> str | None:
        """Whether it has a channel for each class."""
        shape = (1, max(1, len(self.windows)), *_TRIED)
        channels = network(torch.zeros(shape) if self.windows else torch.full(shape, -1000.0)).shape[1]
        return None if channels == len(self.classes) else f"gives {channels} channels for {', '.join(self.classes)}"


class Calibration(BaseModel):
    """From a logit to a probability, sigmoid(scale * logit + shift), and its interval, `spread` more or less inside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Positive
    shift: float
    spread: Annotated[float, Field(ge=0)]  # half of the 90 % interval of the observed rate
    seen: Interval | None = None  # logits of those it was measured on: who lies beyond is as they at the end; None: any

    def percent(self, logit: float) -> tuple[float, float, float]:
        """The probability, and the lower and the upper end of its interval."""
        if self.seen:
            logit = min(self.seen[1], max(self.seen[0], logit))
        middle = min(_SUREST, max(-_SUREST, self.scale * logit + self.shift))
        low, value, high = (100 / (1 + exp(-each)) for each in (middle - self.spread, middle, middle + self.spread))
        return value, low, high


class ForecasterManifest(Manifest):
    """Of all that predict: they read a head in the middle of `shape`, and abstain from what they do not know.

    Their networks answer with `features_bf`, and `familiarity` says how strange these are.
    """

    shape: tuple[Count, Count, Count]  # z, y, x
    hematoma_ml: Interval  # of the patients it was measured on; others are outside what it knows
    strangest: Positive  # of those patients; stranger heads are outside what it knows

    @staticmethod
    def strangeness(network: nn.Module, answer: Any) -> Tensor:
        """(batch): of the heads that the network answers so."""
        strangeness: Tensor = network.get_submodule("familiarity")(answer.features_bf)
        return strangeness

    def _head(self, channels: int) -> Tensor:
        return torch.zeros(1, channels, *self.shape)

    def _complaint(self, network: nn.Module, answer: Any, **wanted: tuple[int, ...]) -> str | None:
        """Whether what it answers has the shapes that are wanted, and says how strange the head is."""
        shapes = {name: tuple(getattr(answer, name).shape) for name in wanted}
        shapes["strangeness"], wanted = tuple(self.strangeness(network, answer).shape), wanted | {"strangeness": (1,)}
        return None if shapes == wanted else f"answers in the shapes {shapes}, not {wanted}"


class ExpansionManifest(ForecasterManifest):
    """`forward(x_bcdhw, clinical_bn)`: see `models.expansion.DenseExpansion`."""

    kind: Literal["expansion"]
    expands: Calibration  # of 6 mL or 33 %
    expands_3_ml: Calibration
    risk_percent: Interval  # from here the risk of expansion is moderate, and high
    size_error_cm: Interval  # 5th and 95th percentile of true - predicted cube root of the volume

    def complaint(self, network: nn.Module) -> str | None:
        """Whether it answers in the shape that it was shown."""
        answer = network(self._head(3), torch.full((1, 6), torch.nan))
        return self._complaint(network, answer, new_bcdhw=(1, 1, *self.shape), expands_bk=(1, 2))


class FollowupManifest(ForecasterManifest):
    """`forward(hu_bcdhw, brain_bcdhw)`: see `models.followup.Followup`."""

    kind: Literal["followup"]
    after_thrombectomy: Calibration | None = None  # of hemorrhage on the next CT, of the difference of its two logits
    spontaneous: Calibration | None = None  # of 6 mL or 33 %; of the two uses, those that were measured

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.after_thrombectomy is None and self.spontaneous is None:
            raise ValueError("needs after_thrombectomy or spontaneous, or both")
        return self

    def must_answer(self, pipeline: str) -> None:
        """Raises BundleError for the use that was not measured."""
        self.calibration(pipeline)

    def calibration(self, pipeline: str) -> Calibration:
        """Of the use that the pipeline asks about. Raises BundleError where that was not measured."""
        other, found = "on spontaneous hemorrhage", self.after_thrombectomy
        if pipeline == "followup":
            other, found = "after thrombectomy", self.spontaneous
        if found is None:
            raise BundleError(f"{self.name} was measured {other} alone, and cannot run {pipeline}")
        return found

    def complaint(self, network: nn.Module) -> str | None:
        """Whether it gives its answers."""
        head = self._head(1)
        return self._complaint(network, network(head, head == 0), ct_bcdhw=(1, 1, *self.shape), logits_bk=(1, 2))


class PrognosisManifest(ForecasterManifest):
    """`forward(hu_bcdhw)`: see `models.prognosis.Prognosis`."""

    kind: Literal["prognosis"]
    outcome: Annotated[str, Field(min_length=1)]  # what counts as poor, as results say it
    poor: Calibration
    low_gcs: Calibration  # of 8 or less
    elderly: Calibration  # of 80 years or older

    def complaint(self, network: nn.Module) -> str | None:
        """Whether it gives its four answers."""
        answer = network(self._head(1))
        return self._complaint(network, answer, poor_b=(1,), gcs_bu=(1, 2), elderly_b=(1,))


class VolumeSurvivalManifest(ForecasterManifest):
    """`forward(hu_bcdhw)`: see `models.volume_survival.VolumeSurvival`."""

    kind: Literal["volume-survival"]
    died: Calibration  # within 30 days, of the difference of its two logits
    size_error_cm: Interval  # 5th and 95th percentile of true - predicted cube root of the volume

    def complaint(self, network: nn.Module) -> str | None:
        """Whether it gives its three answers."""
        return self._complaint(network, network(self._head(1)), size_b=(1,), died_bk=(1, 2))


ANY_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(
    Annotated[
        SegmenterManifest | FollowupManifest | ExpansionManifest | PrognosisManifest | VolumeSurvivalManifest,
        Field(discriminator="kind"),
    ]
)
