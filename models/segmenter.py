"""A residual 3-D U-Net that finds five types of hemorrhage in head CT.

After nnU-Net with a residual encoder (Isensee et al., Nature Methods 2021 and MICCAI 2024). Differences: fewer residual
units and channels, so that two cores train it in hours and use it in a second; in-plane kernels in the first stage
(slices are two to three times as thick as the pixels it reads are wide); skips are added, not concatenated, to what
comes up, which is normed.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.blocks import ALL_AXES, IN_PLANE, Conv, Size, Stage, decoded, decoder_of, encoded, encoder_of, fast

WINDOWS_HU = ((15.0, 85.0), (-15.0, 200.0), (-100.0, 1300.0))  # Viola-UNet: Liu et al., arXiv 2208.06313
NOTHING_LOGIT = 4.0  # of no hemorrhage against each type, before training


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """The defaults are the network that ships."""

    stages: tuple[Stage, ...] = (
        Stage(width=16, stride=(1, 1, 1), kernel=IN_PLANE, units=1),
        Stage(width=32, stride=(1, 2, 2), kernel=ALL_AXES, units=1),
        Stage(width=64, stride=(2, 2, 2), kernel=ALL_AXES, units=2),
        Stage(width=128, stride=(2, 2, 2), kernel=ALL_AXES, units=2),
        Stage(width=192, stride=(2, 2, 2), kernel=ALL_AXES, units=1),
    )
    inputs: int = 3  # HU windows
    types: int = 5  # of hemorrhage
    supervised: int = 4  # resolutions that predict in training
    planes: int = 24  # fewer are mirrored up to so many, see docs/decisions 22

    def fitting(self, shape: Size) -> Size:
        """The smallest shape not below `shape` that has enough planes and whole strides."""
        wanted = max(self.planes, shape[0]), *shape[1:]
        strides = (math.prod(s.stride[axis] for s in self.stages) for axis in range(3))
        z, y, x = (size + -size % stride for size, stride in zip(wanted, strides, strict=True))
        return z, y, x


class Segmenter(nn.Module):
    """Windows of a head CT to the probability of each type of hemorrhage; see the module's docstring."""

    temperature: Tensor

    def __init__(self, config: SegmenterConfig = SegmenterConfig()) -> None:
        super().__init__()
        first = config.stages[0]
        self.stem = Conv(config.inputs, first.width, first.kernel)
        self.encoder, self.decoder = encoder_of(config.stages), decoder_of(config.stages)
        self.heads = nn.ModuleList(_head(s.width, config.types) for s in config.stages[: config.supervised])
        self.register_buffer("temperature", torch.tensor(1.0))  # fitted after training
        self.config = config

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        """Probability (batch, type, z, y, x), float32, from windows scaled to 0-1, of any size."""
        z, y, x = x_bcdhw.shape[2:]
        shape = self.config.fitting((z, y, x))
        with fast(x_bcdhw.device):
            finest = self._decoded(padded(x_bcdhw, shape, 0.0))[-1]
            logits = self.heads[0](finest).narrow(2, _first(shape[0], z), z)[..., :y, :x]
        return torch.softmax(logits.float() / self.temperature, dim=1)[:, 1:].contiguous()

    def renew(self) -> None:
        """Another training begins: the temperature was fitted to what this was, not to what it becomes."""
        self.temperature.fill_(1.0)

    def logits(self, x_bcdhw: Tensor) -> list[Tensor]:
        """Logits (batch, none + types, z, y, x) at each supervised resolution, finest first; sizes fit the strides."""
        return [head(features) for head, features in zip(self.heads, reversed(self._decoded(x_bcdhw)), strict=False)]

    def _decoded(self, x_bcdhw: Tensor) -> list[Tensor]:
        """Features of the decoder, coarsest first."""
        *skips, deepest = encoded(self.stem, self.encoder, x_bcdhw)
        return decoded(self.decoder, deepest, skips)


def _head(width: int, types: int) -> nn.Conv3d:
    """Logits; it begins with what is true nearly everywhere."""
    head = nn.Conv3d(width, 1 + types, 1)
    head.bias = nn.Parameter(torch.tensor([NOTHING_LOGIT, *[0.0] * types]))
    return head


def padded(x: Tensor, shape: Size, fill: float) -> Tensor:
    """(..., z, y, x) up to `shape`: planes in the middle, mirrored there and back; `fill` behind rows and columns.

    Air above and below would change the means that the norms take away.
    """
    z, y, x_size = x.shape[-3:]
    turn = [*range(z), *range(z - 2, 0, -1)]
    first = _first(shape[0], z)
    planes = [turn[(plane - first) % len(turn)] for plane in range(shape[0])]
    return functional.pad(x[..., planes, :, :], (0, shape[2] - x_size, 0, shape[1] - y), value=fill)


def _first(planes: int, own: int) -> int:
    """Where `own` planes begin among `planes`."""
    return (planes - own) // 2
