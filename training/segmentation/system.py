"""Segmentation: heads and their truth, the grid they are made on, and what the segmenter minimises."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from models.segmenter import Segmenter, SegmenterConfig
from training.fit.source import Batch
from training.fit.system import System
from training.losses.segmentation import segmentation_loss
from training.segmentation.inputs import channels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads(Batch):
    """Heads and their truth."""

    hu_bdhw: Tensor  # float32
    labels_bdhw: Tensor  # uint8: 0 none, 1-5 types, 255 unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterSystem(System):
    """The network, and the grid on which it is trained."""

    config: SegmenterConfig = field(default_factory=SegmenterConfig)
    shape: tuple[int, int, int] = (32, 112, 96)  # z, y, x; simulated heads are made in it, centred on the origin
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0)  # z, y, x
    hemorrhage_weight: float = 0.25  # of the cross-entropy over hemorrhage alone, until the learning rate goes down
    hemorrhage_weight_late: float = 0.01  # from then on

    def on(self, spacing_mm: tuple[float, float, float]) -> "SegmenterSystem":
        """The same box in voxels of another size."""
        z, y, x = (
            round(count * old / new) for count, old, new in zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        )
        return replace(self, shape=(z, y, x), spacing_mm=spacing_mm)

    def network(self) -> Segmenter:
        """With random weights."""
        return Segmenter(self.config)

    def answer(self, network: Segmenter, batch: Heads) -> list[Tensor]:
        """Logits at each supervised resolution."""
        return network.logits(channels(batch.hu_bdhw))

    def losses(self, answer: Sequence[Tensor], batch: Heads, *, late: bool) -> dict[str, Tensor]:
        """Hemorrhage weighs less of its own once there is something to outline."""
        weight = self.hemorrhage_weight_late if late else self.hemorrhage_weight
        return {"segmentation": segmentation_loss(answer, batch.labels_bdhw, weight)}
