"""What the U-Nets of ichnode are built of: residual units after nnU-Net, made fast on CPU, and their gradients right.

Instance norm is computed as the batch norm of one head, which is four to eight times as fast on CPU in bf16. There
oneDNN gives a 3 x 3 x 3 convolution of exactly two planes a wrong gradient (decision 166): `Conv3d` never shows it two.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One resolution of the encoder."""

    width: int
    stride: Size  # from the stage above
    kernel: Size
    units: int


class Conv3d(nn.Conv3d):
    """The same convolution, which sees two planes with a third of the zeros that it pads with, and drops its answer.

    In float32 on CPU oneDNN computes it always: torch has small inputs of one head computed another way, two to ten
    times as long (decision 176).
    """

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        """As torch's."""
        if x_bcdhw.shape[2] != 2 or self.kernel_size[0] != 3 or self.stride[0] != 1 or self.padding[0] != 1:
            return self._answer(x_bcdhw)
        return self._answer(functional.pad(x_bcdhw, (0, 0, 0, 0, 0, 1)))[:, :, :2]

    def _answer(self, x_bcdhw: Tensor) -> Tensor:
        is_float = x_bcdhw.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if x_bcdhw.device.type != "cpu" or not is_float or isinstance(self.padding, str):
            return super().forward(x_bcdhw)
        return torch.mkldnn_convolution(
            x_bcdhw, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def with_right_gradients(trunk: nn.Module) -> nn.Module:
    """A network of others, its convolutions made `Conv3d` in place; weights and answers are the same."""
    for layer in trunk.modules():
        if type(layer) is nn.Conv3d:
            layer.__class__ = Conv3d
    return trunk


class Conv(nn.Module):
    """Convolution and instance norm."""

    def __init__(self, width_in: int, width: int, kernel: Size, stride: Size = (1, 1, 1)) -> None:
        super().__init__()
        z, y, x = ((size - 1) // 2 for size in kernel)  # padding
        self.conv = Conv3d(width_in, width, kernel, stride, (z, y, x), bias=False)
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
        inner = self.second(activated(self.first(x_bcdhw)))
        return activated(inner + self.around(x_bcdhw))


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
        return activated(self.merge(self.norm(self.up(x_bcdhw)) + skip_bcdhw))


def encoder_of(stages: Sequence[Stage]) -> nn.ModuleList:
    """The units of each stage; what comes in is as wide as the first."""
    widths_in = [stages[0].width, *(stage.width for stage in stages)]
    return nn.ModuleList(_encoder_stage(width, stage) for width, stage in zip(widths_in, stages, strict=False))


def decoder_of(stages: Sequence[Stage]) -> nn.ModuleList:
    """From each stage to the one above it, finest first."""
    return nn.ModuleList(map(Up, stages[1:], stages))


def encoded(stem: nn.Module, encoder: nn.ModuleList, x_bcdhw: Tensor) -> list[Tensor]:
    """Features of each stage, finest first."""
    features = stem(x_bcdhw.contiguous(memory_format=torch.channels_last_3d))
    found = []
    for stage in encoder:
        features = stage(features)
        found.append(features)
    return found


def decoded(decoder: nn.ModuleList, deepest_bcdhw: Tensor, skips: Sequence[Tensor]) -> list[Tensor]:
    """Features of each stage, coarsest first, from those of the deepest and of the encoder above it, finest first."""
    found = [deepest_bcdhw]
    for up, skip in zip(reversed(decoder), reversed(skips), strict=True):
        found.append(up(found[-1], skip))
    return found


def say(layer: nn.Module, answer: Tensor) -> None:
    """Make a last layer answer so whatever it reads."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(answer.expand_as(parameter) if name == "bias" else torch.zeros_like(parameter))


def _encoder_stage(width_in: int, stage: Stage) -> nn.Sequential:
    first = Unit(width_in, stage.width, stage.kernel, stage.stride)
    return nn.Sequential(
        first, *(Unit(stage.width, stage.width, stage.kernel, (1, 1, 1)) for _ in range(stage.units - 1))
    )


def activated(x_bcdhw: Tensor) -> Tensor:
    """Leaky ReLU."""
    return functional.leaky_relu(x_bcdhw, 0.01)


def fast(device: torch.device) -> torch.autocast:
    """bf16 for convolutions and products on devices that have it in hardware."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_is_bf16_fast(device))


def _is_bf16_fast(device: torch.device) -> bool:
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
