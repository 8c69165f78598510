"""GradNorm: tasks that share layers pull at them equally hard, harder where they lag (Chen et al., ICML 2018)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Weights = Tensor  # one for each task; they sum to the number of tasks


class GradNorm:
    """The weights of the losses of several tasks, moved after each step.

    The loss of the weights, the sum of |G_i - target_i| with G_i = w_i n_i and n_i the norm of the gradient of loss i
    at the shared layer, has the gradient sign(G_i - target_i) n_i, since the target is held fixed: no second derivative
    is needed.
    """

    def __init__(
        self,
        first_losses: Sequence[float | None],
        *,
        alpha: float = 1.5,
        learning_rate: float = 0.025,
        least: float = 0.05,
        settling: int = 20,
    ) -> None:
        """`first_losses`: what each task begins with; None: the mean of its first `settling` steps.

        Until they are over all weights are 1. `alpha`: how much harder a task pulls that lags.
        """
        self.weights: Weights = torch.ones(len(first_losses))
        self._optimizer = torch.optim.Adam([self.weights], lr=learning_rate)
        self._given, self._alpha, self._least, self._settling = tuple(first_losses), alpha, least, settling
        self._sums, self._steps = torch.zeros(len(first_losses)), 0

    def move(self, losses: Sequence[Tensor], shared: Sequence[Tensor]) -> None:
        """One step. `losses` still have their graphs and keep them; `shared` are parameters that all of them use."""
        values = torch.stack([loss.detach().float().cpu() for loss in losses])
        if self._steps < self._settling:
            self._sums += values
            self._steps += 1
            return
        norms = torch.stack([_norm(torch.autograd.grad(loss, shared, retain_graph=True)) for loss in losses]).cpu()
        pulls = self.weights * norms
        progress = values / self._first()
        targets = pulls.mean() * (progress / progress.mean()) ** self._alpha
        self.weights.grad = torch.sign(pulls - targets) * norms
        self._optimizer.step()
        self.weights.clamp_(min=self._least)
        self.weights *= len(self.weights) / self.weights.sum()

    def _first(self) -> Tensor:
        means = (self._sums / max(self._steps, 1)).tolist()
        return torch.tensor([mean if given is None else given for given, mean in zip(self._given, means, strict=True)])

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "weights": self.weights.clone(),
            "optimizer": self._optimizer.state_dict(),
            "sums": self._sums.clone(),
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.weights.copy_(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._sums, self._steps = state["sums"].clone(), state["steps"]


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.cat([gradient.detach().float().flatten() for gradient in gradients]).norm()
    return norm
