"""Outcome alone from one head CT: the network that system B is compared with.

The image network of Perez del Barrio et al. (2023), as Cobo et al. built it anew for the first row of their table (MLMI
2024, arXiv 2408.08784). Its convolutions have no padding, so each takes a voxel off every side: heads of less than 40
planes get empty ones above and below, as the authors' program gives them.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from models.blocks import Size, fast
from models.prognosis import TAUGHT, UNIT_MOST, Answers, published_sight

_LEAST_PLANES = 40
_DROPOUT = 0.5  # of channels, behind the second convolution


@dataclass(frozen=True, slots=True, kw_only=True)
class PerezConfig:
    """What is built, and the grid it was made for (z, y, x).

    No field has a default: by them what a checkpoint stores is told from the configuration of `Prognosis`.
    """

    shape: Size
    widths: tuple[int, int, int, int]


PEREZ = PerezConfig(shape=(32, 112, 96), widths=(16, 32, 64, 128))  # the grid of `prognosis.COMPACT`


class Perez(nn.Module):
    """HU of a head to its outcome; what else is asked for is undecided."""

    def __init__(self, config: PerezConfig = PEREZ) -> None:
        super().__init__()
        first, second, third, last = config.widths
        self.features = nn.Sequential(
            *_pooled(1, first),
            *_pooled(first, second),
            nn.Dropout3d(_DROPOUT),
            *_pooled(second, third),
            nn.Conv3d(third, last, 3),
            nn.ReLU(),
            nn.BatchNorm3d(last),
            nn.AdaptiveMaxPool3d(1),
            nn.Flatten(),
        )
        self.poor = nn.Linear(last, 1)
        self.config = config

    def forward(self, hu_bcdhw: Tensor) -> Answers:
        """From HU (batch, 1, z, y, x)."""
        with fast(hu_bcdhw.device):
            features_bf = self.features(_thick(published_sight(hu_bcdhw)))
        features_bf = features_bf.float()
        heads = len(features_bf)
        return Answers(
            poor_b=self.poor(features_bf)[:, 0],
            gcs_bu=features_bf.new_zeros(heads, len(UNIT_MOST)),
            elderly_b=features_bf.new_zeros(heads),
            taught_bn=features_bf.new_zeros(heads, len(TAUGHT)),
            features_bf=features_bf,
        )


def _pooled(width_in: int, width: int) -> list[nn.Module]:
    return [nn.Conv3d(width_in, width, 3), nn.ReLU(), nn.MaxPool3d(2)]


def _thick(x_bcdhw: Tensor) -> Tensor:
    """With at least so many planes, the head in their middle."""
    missing = max(0, _LEAST_PLANES - x_bcdhw.shape[2])
    return functional.pad(x_bcdhw, (0, 0, 0, 0, missing // 2, missing - missing // 2))
