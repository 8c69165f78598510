"""Hematoma volume and survival from one head CT, without a mask (system C).

After Gong et al., "Unified ICH quantification and prognosis prediction in NCCT images using a multi-task
interpretable network", Front Neurosci 2023, 10.3389/fnins.2023.1118340: a 3-D ResNet34 whose pooled features two heads
read. Unlike the paper the class head has no ReLU before its softmax, which would keep logits from below 0.

`IMPROVED` differs in the size: mean features add up as volumes do, so the head says mL, of which the cube root is
taken. `COMPACT` has fewer channels, and a stem that halves the pixels: at full size it was half of the work.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from monai.networks.nets.resnet import ResNet, ResNetBlock
from torch import Tensor, nn
from torch.nn import functional

from models.blocks import Size, fast, with_right_gradients
from models.familiarity import Familiarity

_WINDOW_HU = (40.0, 110.0)
_USUAL_ML = 20.0  # about
_LEAST = -12.0  # of what softplus reads: 0.0001 mL


class Answers(NamedTuple):
    """One row for each head."""

    size_b: Tensor  # "ICH size": cube root of the mL, cm
    died_bk: Tensor  # (batch, survived and died): logits
    features_bf: Tensor  # that both heads read


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSurvivalConfig:
    """What is built, and the grid it was made for (z, y, x)."""

    shape: Size
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem_stride: Size = (1, 1, 1)
    says_ml: bool = False  # of which the cube root is taken; else the size itself
    explained_by: str = "layer4"  # of the trunk: where Grad-CAM by place looks


PUBLISHED = VolumeSurvivalConfig(shape=(32, 224, 224))  # whatever the spacing: see `sized`
IMPROVED = VolumeSurvivalConfig(shape=(32, 192, 160), says_ml=True)  # 5 x 1 x 1 mm
COMPACT = replace(  # 5 x 2 x 2 mm
    IMPROVED,
    shape=(32, 112, 96),
    blocks=(1, 2, 2, 1),
    widths=(16, 32, 64, 128),
    stem_stride=(1, 2, 2),
    explained_by="layer1",  # 16 x 28 x 24 places; layer 4 has 2 x 4 x 3, too few to point at blood (decision 169)
)


class VolumeSurvival(nn.Module):
    """HU of a head to its hematoma's size and the patient's survival; see the module's docstring."""

    def __init__(self, config: VolumeSurvivalConfig = COMPACT) -> None:
        super().__init__()
        self.trunk = with_right_gradients(
            ResNet(
                ResNetBlock,
                list(config.blocks),
                list(config.widths),
                n_input_channels=1,
                conv1_t_stride=config.stem_stride,
                feed_forward=False,
            )
        )
        self.size, self.died = nn.Linear(config.widths[-1], 1), nn.Linear(config.widths[-1], 2)
        self.familiarity = Familiarity(config.widths[-1])
        self.config = config
        self.trunk.get_submodule(config.explained_by)  # must be there

    @property
    def explained_by(self) -> nn.Module:
        """Where to look for what speaks for a volume; the paper looks at the last convolution."""
        layer: nn.Module = self.trunk.get_submodule(self.config.explained_by)
        return layer

    def forward(self, hu_bcdhw: Tensor) -> Answers:
        """From HU (batch, 1, z, y, x)."""
        low, high = _WINDOW_HU
        with fast(hu_bcdhw.device):
            features_bf = self.trunk(((hu_bcdhw - low) / (high - low)).clamp(0, 1))
        features_bf = features_bf.float()
        return Answers(
            size_b=self._size(features_bf),
            died_bk=self.died(features_bf),
            features_bf=features_bf,
        )

    def _size(self, features_bf: Tensor) -> Tensor:
        said_b: Tensor = self.size(features_bf)[:, 0]
        return size_of(_USUAL_ML * functional.softplus(said_b.clamp_min(_LEAST))) if self.config.says_ml else said_b


def size_of(volume_ml: Tensor) -> Tensor:
    """Cube root of mL, which is cm: errors in it are of order 1 for small and large hematomas alike."""
    return volume_ml.clamp_min(0).pow(1 / 3)


def volume_ml_of(size: Tensor) -> Tensor:
    """The mL of a size; of a negative one 0."""
    return size.clamp_min(0).pow(3)


def sized(size: Tensor, voxel_mm3: Tensor, nominal_mm3: float) -> Tensor:
    """A size read off a head that was resized to a fixed shape, as if all had voxels of `nominal_mm3`, corrected."""
    return size * (voxel_mm3 / nominal_mm3).pow(1 / 3)
