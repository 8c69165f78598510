"""The published way of system D: patches of a brain, each moved as a whole, five of every patient.

After the authors' program (Abramova et al., Appl Sci 2024): one patch of brain that does not grow, four of growth; CTs
scaled by the extremes of the first; loss of smoothness, CT and hematoma 1:1:1; whole heads in overlapping windows.
Unlike theirs it is trained on patients who do not expand as well, whose patches are all of brain.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from models.expansion import Followup, PublishedExpansion, PublishedExpansionConfig
from training.expansion.system import Seen, seen_of
from training.fit.system import System
from training.losses.expansion import published_loss
from training.patients.batch import Patients

_OF_BRAIN, _OF_GROWTH = 1, 4  # patches of each patient
_OVERLAP = 0.6  # of windows


class Patches(NamedTuple):
    """What is said of patches, and what comes true there."""

    said: Followup
    later_ct_bcdhw: Tensor
    later_hematoma_bcdhw: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedExpansionSystem(System):
    """The network, and the grid on which it is trained: about as fine along all axes."""

    config: PublishedExpansionConfig = field(default_factory=PublishedExpansionConfig)
    shape: tuple[int, int, int] = (160, 224, 192)  # z, y, x
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)  # z, y, x

    def network(self) -> PublishedExpansion:
        """With random weights."""
        return PublishedExpansion(self.config)

    def answer(self, network: PublishedExpansion, batch: Patients) -> Patches:
        """Of patches, those of brain drawn by torch's generator."""
        seen = seen_of(batch)
        cut = [(patient, centre) for patient in range(len(batch.hu_bdhw)) for centre in _centres(seen, patient)]
        read, later_ct, later_hematoma = (
            torch.cat([_patch(x_bcdhw[patient : patient + 1], centre) for patient, centre in cut])
            for x_bcdhw in (*_scaled(seen), seen.later_hematoma_bcdhw)
        )
        return Patches(network(read), later_ct, later_hematoma)

    def losses(self, answer: Patches, batch: Patients, *, late: bool) -> dict[str, Tensor]:
        """As published."""
        return {"image": published_loss(answer.said, answer.later_ct_bcdhw, answer.later_hematoma_bcdhw)}

    def measured(self, network: nn.Module) -> nn.Module:
        """Of whole heads."""
        return Whole(network)


class Whole(nn.Module):
    """Heads in overlapping windows; nothing where the first CT shows nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.windows = SlidingWindowInferer([PublishedExpansion.patch] * 3, overlap=_OVERLAP, mode="gaussian")

    def forward(self, x_bcdhw: Tensor, clinical_bn: Tensor) -> Followup:
        """From what `ExpansionSystem` reads; what is known of the patient is not looked at."""
        read, most = _read(x_bcdhw)
        said = self.windows(read, lambda part: torch.cat(self.network(part), dim=1)) * (read[:, :1] > 0)
        assert isinstance(said, Tensor)
        return Followup(ct_bcdhw=said[:, :1] * most, hematoma_bcdhw=said[:, 1:2], field_bcdhw=said[:, 2:])


def _read(x_bcdhw: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, CT and hematoma, z, y, x), the CT 0-1 by its own extremes, of which the lower is 0; and the higher."""
    most = x_bcdhw[:, :1].amax(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-6)
    return torch.cat([x_bcdhw[:, :1] / most, x_bcdhw[:, 1:].sum(1, keepdim=True).clamp(0, 1)], dim=1), most


def _scaled(seen: Seen) -> tuple[Tensor, Tensor]:
    """What is read, and the later CT on the same scale."""
    read, most = _read(seen.x_bcdhw)
    return read, seen.later_ct_bcdhw / most


def _centres(seen: Seen, patient: int) -> list[tuple[int, ...]]:
    """One drawn in brain that does not grow, the others at even steps through what grows, the same at each showing.

    Where nothing grows all are drawn in brain.
    """
    grown = (seen.later_hematoma_bcdhw - seen.baseline_bcdhw)[patient, 0] > 0
    brain = (seen.x_bcdhw[patient, 0] > 0) & ~grown
    growth, still = grown.nonzero(), (brain if bool(brain.any()) else ~grown).nonzero()
    of_brain = _OF_BRAIN if len(growth) else _OF_BRAIN + _OF_GROWTH
    chosen = [still[int(torch.randint(len(still), ()))] for _ in range(of_brain)]
    if len(growth):
        step = len(growth) / _OF_GROWTH
        chosen += [growth[int((index + 0.5) * step)] for index in range(_OF_GROWTH)]
    return [tuple(place.tolist()) for place in chosen]


def _patch(x_bcdhw: Tensor, centre: tuple[int, ...]) -> Tensor:
    """Around the centre, moved inside where it would reach out."""
    size = PublishedExpansion.patch
    z, y, x = (min(max(0, at - size // 2), have - size) for at, have in zip(centre, x_bcdhw.shape[2:], strict=True))
    return x_bcdhw[:, :, z : z + size, y : y + size, x : x + size]
