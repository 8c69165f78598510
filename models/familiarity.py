"""Familiarity: how unlike the heads that a network knows is one that it is shown, by the network's own features."""

import torch
from torch import Tensor, nn

_LEAST_DEVIATION = 1e-3


class Familiarity(nn.Module):
    """Mean and deviation of pooled features over heads that are known; not learned, but fitted after training.

    Networks that have one answer with the features that it reads.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, features_bf: Tensor) -> Tensor:
        """The strangeness of each head: root mean square of its features' deviations, about 1 for heads like those."""
        deviations_bf = (features_bf.detach().float() - self.mean) / self.deviation
        return deviations_bf.square().mean(dim=1).sqrt()

    def fit(self, features_nf: Tensor) -> None:
        """To heads that are known."""
        features_nf = features_nf.float()
        self.mean.copy_(features_nf.mean(dim=0))
        self.deviation.copy_(features_nf.std(dim=0).clamp_min(_LEAST_DEVIATION))
