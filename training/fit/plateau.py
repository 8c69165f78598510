"""Plateau: the learning rate is cut whenever the loss has not become lower for a while."""

from dataclasses import dataclass, replace
from math import inf
from typing import Self

_CUT, _PATIENCE = 0.98, 5  # of the rate; steps, before the one at which it is cut
_LOWER = 1 - 1e-4  # than the lowest so far
_LEAST = 5e-4  # where torch stops cutting a rate that began with 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """What is remembered of the losses: `ReduceLROnPlateau` of torch as system B's authors use it, after each step."""

    share: float = 1.0  # that is left of the rate
    lowest: float = inf
    waited: int = 0  # steps since then, or since the last cut

    def after(self, loss: float) -> Self:
        """What is remembered after one more step."""
        if loss < self.lowest * _LOWER:
            return replace(self, lowest=loss, waited=0)
        if self.waited < _PATIENCE:
            return replace(self, waited=self.waited + 1)
        return replace(self, share=self.share * _CUT if self.share > _LEAST else self.share, waited=0)
