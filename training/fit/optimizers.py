"""Optimizers of the recipes, by name: ours, and those of the papers."""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

FULL_RATE_STD = 0.05  # of the weights of a convolution when it begins; those of 144 inputs have it
_MOMENTUM = 0.9

OptimizerName = Literal["scaled AdamW", "AdamW", "AMSGrad", "SGD", "Adam"]


def scaled_adamw(network: nn.Module, weight_decay: float) -> AdamW:
    """AdamW with a learning rate for each convolution and no decay of biases and norms."""
    groups = [_group(weight, weight_decay) for weight in network.parameters() if weight.ndim > 1]
    groups.append({"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0, "scale": 1.0})
    return AdamW(groups, fused=True)


def _group(weight: nn.Parameter, weight_decay: float) -> dict[str, Any]:
    """One convolution. Adam moves every weight by about the learning rate, which is a tenth of a weight of the deep
    stages: their learning rate is scaled, so that all are moved by the same share of their size.
    """
    deviation = float(weight.detach().std())
    scale = min(1.0, deviation / FULL_RATE_STD) if deviation > 0 else 1.0  # one that begins with nothing must move
    return {"params": [weight], "weight_decay": weight_decay, "scale": scale}


# of a network's weights, with a weight decay; a group of weights may have a `scale` of its learning rate
OPTIMIZERS: dict[OptimizerName, Callable[[nn.Module, float], Optimizer]] = {
    "scaled AdamW": scaled_adamw,
    "AdamW": lambda network, decay: AdamW(network.parameters(), weight_decay=decay, fused=True),
    "AMSGrad": lambda network, decay: AdamW(network.parameters(), weight_decay=decay, amsgrad=True, fused=True),
    "SGD": lambda network, decay: SGD(network.parameters(), momentum=_MOMENTUM, weight_decay=decay, fused=True),
    "Adam": lambda network, decay: Adam(network.parameters(), weight_decay=decay, fused=True),
}
