"""Convolutions: of exactly two planes, whose weight gradient oneDNN gets wrong in bf16; and in float32, by oneDNN."""

import copy

import pytest
import torch
from torch import Tensor, nn

from models.blocks import ALL_AXES, Conv3d, Size, fast, with_right_gradients
from models.prognosis import COMPACT, Prognosis

PLANES = [1, 2, 3]
STRIDES = [(1, 1, 1), (1, 2, 2), (2, 2, 2)]


def of_other(stride: Size) -> nn.Conv3d:
    torch.manual_seed(1)
    return nn.Conv3d(8, 8, ALL_AXES, stride, padding=1).to(memory_format=torch.channels_last_3d)


def answer_and_gradient(conv: nn.Conv3d, x_bcdhw: Tensor) -> tuple[Tensor, Tensor]:
    conv.zero_grad()
    with fast(x_bcdhw.device):
        answer = conv(x_bcdhw).float()
    answer.square().mean().backward()
    assert conv.weight.grad is not None
    return answer.detach(), conv.weight.grad.clone()


@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("stride", STRIDES)
def test_the_gradient_is_that_of_float32(stride: Size, planes: int) -> None:
    conv = of_other(stride)
    x_bcdhw = torch.randn(2, 8, planes, 8, 8).contiguous(memory_format=torch.channels_last_3d)
    exact = conv.bfloat16().float()  # what bf16 makes of the weights
    there = torch.nn.functional.conv3d(x_bcdhw.bfloat16().float(), exact.weight, exact.bias, stride, padding=1)
    (wanted,) = torch.autograd.grad(there.square().mean(), exact.weight)
    answer, gradient = answer_and_gradient(with_right_gradients(conv), x_bcdhw)
    assert (answer - there).norm() < 0.01 * there.norm()
    assert (gradient - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("stride", STRIDES)
def test_in_float32_answer_and_gradients_are_those_of_torch(stride: Size, planes: int) -> None:
    others, x_bcdhw = of_other(stride), torch.randn(1, 8, planes, 8, 8, requires_grad=True)
    ours = with_right_gradients(copy.deepcopy(others))
    wanted, answer = others(x_bcdhw), ours(x_bcdhw)
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad(each.square().sum(), (x_bcdhw, *conv.parameters()))
        for each, conv in ((answer, ours), (wanted, others))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)


def test_every_convolution_of_a_network_of_others_is_made_so_and_keeps_its_weights() -> None:
    convolutions = [layer for layer in Prognosis(COMPACT).modules() if isinstance(layer, nn.Conv3d)]
    assert convolutions
    assert all(type(layer) is Conv3d for layer in convolutions)
    same = of_other((1, 1, 1))
    weights = same.weight.clone()
    assert torch.equal(with_right_gradients(same).get_parameter("weight"), weights)
