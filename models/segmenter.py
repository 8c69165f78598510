"""A residual 3-D U-Net that finds five types of hemorrhage in head CT.

After nnU-Net with a residual encoder (Isensee et al., Nature Methods 2021 and MICCAI 2024). Differences: fewer residual
units and channels, so that two cores train it in hours and use it in a second; in-plane kernels in the first stage
(slices are two to three times as thick as the pixels it reads are wide); skips are added, not concatenated, to what
comes up, which is normed; instance norm is computed as the batch norm of one head, which is four to eight times as fast
on CPU in bf16.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Size = tuple[int, int, int]  # z, y, x

IN_PLANE: Size = (1, 3, 3)
ALL_AXES: Size = (3, 3, 3)
NOTHING_LOGIT = 4.0  # of no hemorrhage against each type, before training


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One resolution of the encoder."""

    width: int
    stride: Size  # from the stage above
    kernel: Size
    units: int


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
        first, *deeper = config.stages
        self.stem = Conv(config.inputs, first.width, first.kernel)
        self.encoder = nn.ModuleList([_stage(first.width, first), *map(_stage, _widths(config), deeper)])
        self.decoder = nn.ModuleList(map(Up, deeper, config.stages))
        self.heads = nn.ModuleList(_head(s.width, config.types) for s in config.stages[: config.supervised])
        self.register_buffer("temperature", torch.tensor(1.0))  # fitted after training
        self.config = config

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        """Probability (batch, type, z, y, x), float32, from windows scaled to 0-1, of any size."""
        z, y, x = x_bcdhw.shape[2:]
        shape = self.config.fitting((z, y, x))
        with torch.autocast(x_bcdhw.device.type, torch.bfloat16, enabled=_is_bf16_fast(x_bcdhw.device)):
            finest = self._decoded(padded(x_bcdhw, shape, 0.0))[-1]
            logits = self.heads[0](finest).narrow(2, _first(shape[0], z), z)[..., :y, :x]
        return torch.softmax(logits.float() / self.temperature, dim=1)[:, 1:].contiguous()

    def logits(self, x_bcdhw: Tensor) -> list[Tensor]:
        """Logits (batch, none + types, z, y, x) at each supervised resolution, finest first; sizes fit the strides."""
        return [head(features) for head, features in zip(self.heads, reversed(self._decoded(x_bcdhw)), strict=False)]

    def _decoded(self, x_bcdhw: Tensor) -> list[Tensor]:
        """Features of the decoder, coarsest first."""
        features = self.stem(x_bcdhw.contiguous(memory_format=torch.channels_last_3d))
        skips = []
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        decoded = [skips.pop()]
        for up in reversed(self.decoder):
            decoded.append(up(decoded[-1], skips.pop()))
        return decoded


class Conv(nn.Module):
    """Convolution and instance norm."""

    def __init__(self, width_in: int, width: int, kernel: Size, stride: Size = (1, 1, 1)) -> None:
        super().__init__()
        z, y, x = ((size - 1) // 2 for size in kernel)  # padding
        self.conv = nn.Conv3d(width_in, width, kernel, stride, (z, y, x), bias=False)
        self.norm = InstanceNorm(width)

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        """(batch, width, z, y, x), each divided by its stride."""
        normed: Tensor = self.norm(self.conv(x_bcdhw))
        return normed


class InstanceNorm(nn.Module):
    """Mean 0 and variance 1 in each channel of each head, then a learned scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        """The same shape."""
        heads = [self._normed(head) for head in torch.split(x_bcdhw, 1)]
        return torch.cat(heads) if len(heads) > 1 else heads[0]

    def _normed(self, head_1cdhw: Tensor) -> Tensor:
        return torch.batch_norm(head_1cdhw, self.scale, self.shift, None, None, True, 0.0, 1e-5, True)


class Unit(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, width_in: int, width: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        self.first = Conv(width_in, width, kernel, stride)
        self.second = Conv(width, width, kernel)
        is_same = width_in == width and math.prod(stride) == 1
        self.around = nn.Identity() if is_same else Conv(width_in, width, stride, stride)

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        """(batch, width, z, y, x), each divided by its stride."""
        inner = self.second(_activated(self.first(x_bcdhw)))
        return _activated(inner + self.around(x_bcdhw))


class Up(nn.Module):
    """From a stage to the one above it.

    What comes from below is normed, so that it weighs as much as the skip: else the deep stages are not learned.
    """

    def __init__(self, below: Stage, above: Stage) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(below.width, above.width, below.stride, below.stride, bias=False)
        self.norm = InstanceNorm(above.width)
        self.merge = Conv(above.width, above.width, above.kernel)

    def forward(self, x_bcdhw: Tensor, skip_bcdhw: Tensor) -> Tensor:
        """The shape of the skip."""
        return _activated(self.merge(self.norm(self.up(x_bcdhw)) + skip_bcdhw))


def _stage(width_in: int, stage: Stage) -> nn.Sequential:
    first = Unit(width_in, stage.width, stage.kernel, stage.stride)
    return nn.Sequential(
        first, *(Unit(stage.width, stage.width, stage.kernel, (1, 1, 1)) for _ in range(stage.units - 1))
    )


def _head(width: int, types: int) -> nn.Conv3d:
    """Logits; it begins with what is true nearly everywhere."""
    head = nn.Conv3d(width, 1 + types, 1)
    head.bias = nn.Parameter(torch.tensor([NOTHING_LOGIT, *[0.0] * types]))
    return head


def _widths(config: SegmenterConfig) -> Sequence[int]:
    return [stage.width for stage in config.stages]


def _activated(x_bcdhw: Tensor) -> Tensor:
    return functional.leaky_relu(x_bcdhw, 0.01)


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


def _is_bf16_fast(device: torch.device) -> bool:
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
