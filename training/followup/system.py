"""Follow-up: what `Followup` reads of patients, its two tasks and how they are balanced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import NamedTuple, Self

from torch import Tensor, nn
from torch.nn import functional

from models.blocks import Size
from models.followup import COMPACT, DENSE, Followup, FollowupConfig, Prediction, brain_alone
from models.segmenter import Segmenter
from training.data.manifest import UNKNOWN
from training.fit.system import System
from training.losses.followup import generation_loss
from training.losses.gradnorm import GradNorm
from training.losses.known import known_loss
from training.patients.batch import BECAME, Patients

LATE, EXPANSION = BECAME.index("late hemorrhage"), BECAME.index("conventional expansion")
_SMOOTHING = 0.05  # of the labels


class Seen(NamedTuple):
    """What the network reads, and what comes true."""

    hu_bcdhw: Tensor
    brain_bcdhw: Tensor  # boolean
    x_bcdhw: Tensor  # the brain, as `brain_alone`
    later_bcdhw: Tensor
    blood_bcdhw: Tensor  # boolean: on either CT; where nobody said, what will be as dense
    hemorrhage_b: Tensor  # 0 or 1, NaN where it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowupSystem(System):
    """The network and its tasks; the switches but the last are the ablations of the paper."""

    config: FollowupConfig = COMPACT
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0)  # z, y, x
    generates: bool = True
    classifies: bool = True
    balanced: bool = True  # by GradNorm; else both weigh 1
    encoder_learns: bool = True  # else it stays as it begins, which is worth it from a segmenter alone

    @property
    def shape(self) -> Size:
        """What the network was built for."""
        return self.config.shape

    @property
    def is_whole(self) -> bool:
        """Both tasks."""
        return self.generates and self.classifies

    def regridded(self, shape: Size, spacing_mm: tuple[float, float, float]) -> Self:
        """An encoder of other voxels has to learn these."""
        return replace(super(FollowupSystem, self).regridded(shape, spacing_mm), encoder_learns=True)

    def network(self) -> Followup:
        """With random weights."""
        network = Followup(self.config)
        for part in (network.stem, network.encoder):
            part.requires_grad_(self.encoder_learns)
        return network

    def weights_from(self, network: nn.Module) -> Mapping[str, Tensor] | None:
        """Of a segmenter that is built alike, what is no head of its own."""
        if not isinstance(network, Segmenter):
            return super(FollowupSystem, self).weights_from(network)  # a dataclass with slots is another class
        if (network.config.stages, network.config.inputs) != (self.config.stages, len(self.config.windows)):
            return None
        return {
            name: weight
            for name, weight in network.state_dict().items()
            if name.startswith(("stem.", "encoder.", "decoder."))
        }

    def answer(self, network: Followup, batch: Patients) -> Prediction:
        """The next CT of each patient."""
        return network(batch.hu_bdhw[:, None], batch.brain_bdhw[:, None])  # type: ignore[no-any-return]

    def losses(self, answer: Prediction, batch: Patients, *, late: bool) -> dict[str, Tensor]:
        """Of the two tasks."""
        seen, losses = seen_of(batch), {}
        if self.generates:
            losses["generation"] = generation_loss(
                answer.ct_bcdhw, seen.later_bcdhw, seen.brain_bcdhw, seen.blood_bcdhw
            )
        if self.classifies:
            losses["classification"] = known_loss(_class_loss, answer.logits_bk, seen.hemorrhage_b)
        return losses

    def balance(self) -> GradNorm | None:
        """The classifier begins with two equal answers."""
        return GradNorm([None, log(2)]) if self.balanced and self.generates and self.classifies else None

    def shared(self, network: Followup) -> Sequence[Tensor]:
        """The last layer that both tasks use."""
        return list(network.last_shared.parameters())


def seen_of(batch: Patients) -> Seen:
    """Hemorrhage is late hemorrhage after thrombectomy, and conventional expansion of spontaneous hemorrhage."""
    hu, brain = batch.hu_bdhw[:, None], batch.brain_bdhw[:, None]
    later = brain_alone(batch.later_hu_bdhw[:, None], brain)
    labels, later_labels = batch.labels_bdhw[:, None], batch.later_labels_bdhw[:, None]
    is_unknown = (labels == UNKNOWN) | (later_labels == UNKNOWN)
    late_b, expansion_b = batch.became_bn[:, LATE], batch.became_bn[:, EXPANSION]
    return Seen(
        hu_bcdhw=hu,
        brain_bcdhw=brain,
        x_bcdhw=brain_alone(hu, brain),
        later_bcdhw=later,
        blood_bcdhw=((labels > 0) | (later_labels > 0)).where(~is_unknown, later > DENSE),
        hemorrhage_b=late_b.where(late_b.isfinite(), expansion_b),
    )


def _class_loss(logits_bk: Tensor, hemorrhage_b: Tensor) -> Tensor:
    return functional.cross_entropy(logits_bk, hemorrhage_b.long(), label_smoothing=_SMOOTHING)
