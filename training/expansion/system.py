"""Expansion: what `DenseExpansion` reads of patients, and what it minimises."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from models.expansion import DEFINITIONS, DenseExpansion, DenseExpansionConfig, DenseFollowup
from training.data.manifest import LABEL_VALUES
from training.fit.system import System
from training.losses.expansion import dense_loss
from training.losses.known import known_loss
from training.patients.batch import Patients

IPH, IVH = LABEL_VALUES["IPH"], LABEL_VALUES["IVH"]
_SEEN_HU = 100.0  # 0 to this is 0 to 1


class Seen(NamedTuple):
    """What the network reads, and what comes true."""

    x_bcdhw: Tensor  # CT, parenchymal and ventricular blood
    clinical_bn: Tensor
    later_ct_bcdhw: Tensor
    later_hematoma_bcdhw: Tensor
    baseline_bcdhw: Tensor  # parenchymal and ventricular blood together


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpansionSystem(System):
    """The network, and the grid on which it is trained."""

    config: DenseExpansionConfig = field(default_factory=DenseExpansionConfig)
    shape: tuple[int, int, int] = (32, 112, 96)  # z, y, x
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0)  # z, y, x
    definition_weight: float = 0.25  # of the cross-entropy of the definitions of expansion

    def regridded(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Self:
        """The same on another grid: the network reads any."""
        return replace(self, shape=shape, spacing_mm=spacing_mm)

    def network(self) -> DenseExpansion:
        """With random weights."""
        return DenseExpansion(self.config)

    def answer(self, network: DenseExpansion, batch: Patients) -> DenseFollowup:
        """The next day of each patient."""
        seen = seen_of(batch)
        return network(seen.x_bcdhw, seen.clinical_bn)  # type: ignore[no-any-return]

    def losses(self, answer: DenseFollowup, batch: Patients, *, late: bool) -> dict[str, Tensor]:
        """Of the CT and its hematoma, and of whether it is an expansion."""
        seen, truth_bk = seen_of(batch), batch.became_bn[:, : len(DEFINITIONS)]
        definitions = known_loss(functional.binary_cross_entropy_with_logits, answer.expands_bk, truth_bk)
        return {
            "image": dense_loss(answer, seen.later_ct_bcdhw, seen.later_hematoma_bcdhw, seen.baseline_bcdhw),
            "definitions": self.definition_weight * definitions,
        }


def seen_of(batch: Patients) -> Seen:
    """CTs as 0 to 1, blood as shares."""
    ct, later_ct = (hu.clamp(0, _SEEN_HU)[:, None] / _SEEN_HU for hu in (batch.hu_bdhw, batch.later_hu_bdhw))
    parenchymal, ventricular = ((batch.labels_bdhw == label)[:, None].float() for label in (IPH, IVH))
    later = (batch.later_labels_bdhw == IPH) | (batch.later_labels_bdhw == IVH)
    return Seen(
        x_bcdhw=torch.cat([ct, parenchymal, ventricular], dim=1),
        clinical_bn=batch.known_bn,
        later_ct_bcdhw=later_ct,
        later_hematoma_bcdhw=later[:, None].float(),
        baseline_bcdhw=parenchymal + ventricular,
    )
