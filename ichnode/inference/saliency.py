"""Saliency: where in a head CT an answer of a network comes from, as gradients say.

Grad-CAM (Selvaraju et al., ICCV 2017) is coarse and shows regions that speak for the answer. By place (HiResCAM,
Draelos and Carin, arXiv 2011.08891) it does so in layers far from the answer too, and is the same in the last one
before a mean. Guided backpropagation (Springenberg et al., ICLR 2015 workshop) is fine and shows edges; guided Grad-CAM
is both multiplied.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

Answer = Callable[[Tensor], Tensor]  # what a network reads (1, channel, z, y, x) to one number


def grad_cam(answer: Answer, layer: nn.Module, read_bcdhw: Tensor) -> Tensor:
    """(z, y, x), 0 and more, on the grid of what was read: features of `layer`, weighed by their mean gradients."""
    features, gradient = _features_and_gradient(answer, layer, read_bcdhw)
    return _shown(gradient.mean(dim=(2, 3, 4), keepdim=True) * features, read_bcdhw)


def grad_cam_by_place(answer: Answer, layer: nn.Module, read_bcdhw: Tensor) -> Tensor:
    """As Grad-CAM, but every place by its own gradient, which is what counts far from the answer (decision 169)."""
    features, gradient = _features_and_gradient(answer, layer, read_bcdhw)
    return _shown(gradient * features, read_bcdhw)


def _features_and_gradient(answer: Answer, layer: nn.Module, read_bcdhw: Tensor) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, features: Tensor) -> Tensor:
        kept.append(features)
        return features.clone()  # a ReLU that works in place would change what was kept

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            said = answer(read_bcdhw.detach().requires_grad_())
            (gradient,) = torch.autograd.grad(said.sum(), kept[-1])
    finally:
        handle.remove()
    return kept[-1].detach(), gradient


def _shown(weighed_bcdhw: Tensor, read_bcdhw: Tensor) -> Tensor:
    coarse = functional.relu(weighed_bcdhw.sum(dim=1, keepdim=True)).float()
    size = list(read_bcdhw.shape[2:])
    return functional.interpolate(coarse, size=size, mode="trilinear", align_corners=False)[0, 0]


def guided_backpropagation(answer: Answer, network: nn.Module, read_bcdhw: Tensor) -> Tensor:
    """(z, y, x), of either sign: the gradient of the answer, stopped at every ReLU where it is negative."""
    with _guided(network), torch.enable_grad():
        asked = read_bcdhw.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(answer(asked).sum(), asked)
    return gradient[0, 0].float()


def guided_grad_cam(answer: Answer, network: nn.Module, layer: nn.Module, read_bcdhw: Tensor) -> Tensor:
    """(z, y, x): the edges of guided backpropagation in the region of Grad-CAM."""
    return grad_cam(answer, layer, read_bcdhw) * guided_backpropagation(answer, network, read_bcdhw)


@contextmanager
def _guided(network: nn.Module) -> Iterator[None]:
    """While inside, every ReLU of `network` lets only gradients above 0 back."""
    with ExitStack() as undo:
        for relu in (module for module in network.modules() if isinstance(module, nn.ReLU)):
            undo.callback(setattr, relu, "inplace", relu.inplace)
            relu.inplace = False  # hooks need what came in
            undo.callback(relu.register_full_backward_hook(_only_positive).remove)
        yield


def _only_positive(_module: nn.Module, gradients: tuple[Tensor, ...] | Tensor, _later: object) -> tuple[Tensor, ...]:
    return tuple(gradient.clamp_min(0) for gradient in gradients)
