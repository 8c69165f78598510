"""Outcome, consciousness and age from one head CT, learned together (system B).

After Cobo et al., "Multi-task learning approach for intracranial hemorrhage prognosis", MLMI 2024, arXiv 2408.08784,
and their code: a 3-D DenseNet121 whose features three linear heads read. `PUBLISHED` and `IMPROVED` differ in how they
see HU; `COMPACT` is `IMPROVED` with fewer channels.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal, NamedTuple

import torch
from monai.networks.nets import DenseNet
from torch import Tensor, nn

from models.blocks import Size


class Consciousness(IntEnum):
    """Categories of the Glasgow Coma Scale, as many as ordinal units are on."""

    GCS_13_TO_15 = 0
    GCS_9_TO_12 = 1
    GCS_3_TO_8 = 2


_UNIT_MOST = (12, 8)  # GCS up to which each ordinal unit is on


class Answers(NamedTuple):
    """One row for each head: logits, or probabilities."""

    poor_b: Tensor  # outcome
    gcs_bu: Tensor  # ordinal units: GCS 12 or less, 8 or less
    elderly_b: Tensor  # 80 years or older


def published_sight(hu: Tensor) -> Tensor:
    """15 to 100 HU as 0 to 1; all else is 0, also what is denser: bone and calcium are taken out."""
    scaled = (hu - 15) / 85
    return scaled.where((scaled > 0) & (scaled < 1), 0.0)


def improved_sight(hu: Tensor) -> Tensor:
    """0 to 100 HU as 0 to 1, and what is denser as 1."""
    return hu.clamp(0, 100) / 100


SIGHTS = {"published": published_sight, "improved": improved_sight}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrognosisConfig:
    """What is built, and the grid it was made for (z, y, x)."""

    sight: Literal["published", "improved"]  # how it sees HU
    shape: Size
    features: int = 64  # of the first convolution
    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    dropout: float = 0.2


PUBLISHED = PrognosisConfig(sight="published", shape=(40, 301, 301))  # spacing is ignored
IMPROVED = PrognosisConfig(sight="improved", shape=(32, 192, 160))  # 5 x 1 x 1 mm
COMPACT = replace(IMPROVED, shape=(32, 112, 96), features=32, growth=16, blocks=(4, 8, 12, 8))  # 5 x 2 x 2 mm


class Prognosis(nn.Module):
    """HU of a head to three answers; see the module's docstring."""

    temperature: Tensor

    def __init__(self, config: PrognosisConfig = COMPACT) -> None:
        super().__init__()
        trunk = DenseNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,  # of the class layers, which are left out
            init_features=config.features,
            growth_rate=config.growth,
            block_config=config.blocks,
            dropout_prob=config.dropout,
        )
        self.features = trunk.features
        width = trunk.get_submodule("class_layers.out").get_parameter("weight").shape[1]
        self.poor, self.gcs, self.elderly = _head(width, 1), _head(width, len(_UNIT_MOST)), _head(width, 1)
        self.register_buffer("temperature", torch.ones(3))  # of poor, GCS and elderly; fitted after training
        self.config = config

    def logits(self, hu_bcdhw: Tensor) -> Answers:
        """From HU (batch, 1, z, y, x)."""
        features = self.features(SIGHTS[self.config.sight](hu_bcdhw))
        return Answers(
            poor_b=self.poor(features)[:, 0], gcs_bu=self.gcs(features), elderly_b=self.elderly(features)[:, 0]
        )

    def forward(self, hu_bcdhw: Tensor) -> Answers:
        """Probabilities, float32, from HU (batch, 1, z, y, x)."""
        return Answers(
            *(
                torch.sigmoid(logit.float() / t)
                for logit, t in zip(self.logits(hu_bcdhw), self.temperature, strict=True)
            )
        )


def _head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(width, outputs))


def gcs_units(gcs_b: Tensor) -> Tensor:
    """(batch, unit) 0 or 1: 13-15 is 00, 9-12 is 10, 3-8 is 11."""
    return torch.stack([gcs_b <= most for most in _UNIT_MOST], dim=1).float()


def consciousness(probability_bu: Tensor) -> list[Consciousness]:
    """The category of each row: how many units are more likely on than off, whichever they are."""
    return [Consciousness(int(count)) for count in (probability_bu > 0.5).sum(dim=1)]
