"""Outcome, consciousness and age from one head CT, learned together (system B).

After Cobo et al., "Multi-task learning approach for intracranial hemorrhage prognosis", MLMI 2024, arXiv 2408.08784,
and their code: a 3-D DenseNet121 whose features three linear heads read. `PUBLISHED` and `IMPROVED` differ in how they
see HU. `COMPACT` has fewer channels and sees as published: where bone was white, blood was hardly seen, and nothing was
learned in 940 steps. A fourth head, which is not theirs, is there for training.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from monai.networks.nets import DenseNet
from torch import Tensor, nn

from models.blocks import Size, fast, with_right_gradients
from models.familiarity import Familiarity

UNIT_MOST = (12, 8)  # GCS up to which each ordinal unit is on
TAUGHT = ("parenchymal mL", "ventricular mL", "age")  # as `training.prognosis.system` reads them


class Answers(NamedTuple):
    """Logits, one row for each head."""

    poor_b: Tensor  # outcome
    gcs_bu: Tensor  # ordinal units: GCS 12 or less, 8 or less
    elderly_b: Tensor  # 80 years or older
    taught_bn: Tensor  # TAUGHT: training alone asks for it
    features_bf: Tensor  # that the heads read


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
    stripped: bool = False  # whoever shows it a head shows the brain alone, all else as 0 HU
    anterior_last: bool = False  # learned from rows that go from back to front, as those of most NIfTI files do
    features: int = 64  # of the first convolution
    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    dropout: float = 0.2


PUBLISHED = PrognosisConfig(sight="published", shape=(40, 301, 301), stripped=True)  # spacing is ignored
IMPROVED = PrognosisConfig(sight="improved", shape=(32, 192, 160))  # 5 x 1 x 1 mm
COMPACT = replace(  # 5 x 2 x 2 mm
    IMPROVED, sight="published", shape=(32, 112, 96), features=32, growth=16, blocks=(4, 8, 12, 8), dropout=0.0
)


class Prognosis(nn.Module):
    """HU of a head to three answers; see the module's docstring."""

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
        self.features = with_right_gradients(trunk.features)
        width = trunk.get_submodule("class_layers.out").get_parameter("weight").shape[1]
        self.pool = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.poor, self.gcs, self.elderly = (nn.Linear(width, outputs) for outputs in (1, len(UNIT_MOST), 1))
        self.taught = nn.Linear(width, len(TAUGHT))
        self.familiarity = Familiarity(width)
        self.config = config

    @property
    def last_convolution(self) -> nn.Module:
        """Where the paper's program looks for what speaks for an answer."""
        last: nn.Module = self.features.get_submodule("transition3.conv")
        return last

    def forward(self, hu_bcdhw: Tensor) -> Answers:
        """From HU (batch, 1, z, y, x), y to the back."""
        return self.answers(self.turned(hu_bcdhw))

    def turned(self, x_bcdhw: Tensor) -> Tensor:
        """From y to the back to y as it was learned, and back again."""
        return x_bcdhw.flip(-2) if self.config.anterior_last else x_bcdhw

    def answers(self, hu_bcdhw: Tensor) -> Answers:
        """The same of a head that lies as it was learned."""
        with fast(hu_bcdhw.device):
            features_bf = self.pool(self.features(SIGHTS[self.config.sight](hu_bcdhw)))
        features_bf = features_bf.float()
        return Answers(
            poor_b=self.poor(features_bf)[:, 0],
            gcs_bu=self.gcs(features_bf),
            elderly_b=self.elderly(features_bf)[:, 0],
            taught_bn=self.taught(features_bf),
            features_bf=features_bf,
        )


def gcs_units(gcs_b: Tensor) -> Tensor:
    """(batch, unit) 0 or 1: 13-15 is 00, 9-12 is 10, 3-8 is 11."""
    return torch.stack([gcs_b <= most for most in UNIT_MOST], dim=1).float()


def units_on(logit_bu: Tensor) -> list[int]:
    """Of each row how many units are more likely on than off, whichever they are: 0 is GCS 13-15, 2 is 3-8."""
    return (logit_bu > 0).sum(dim=1).tolist()
