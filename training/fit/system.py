"""System: what the loop trains. Each has a folder of its own beside `fit`."""

from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer


class System(Protocol):
    """A network and what it minimises. Its fields are plain values, and stand in the checkpoint."""

    def network(self) -> nn.Module:
        """With random weights."""

    def optimizer(self, network: nn.Module, weight_decay: float) -> Optimizer:
        """Of the network's weights. A group of them may have a `scale` that its learning rate is multiplied with."""

    def answer(self, network: Any, batch: Any) -> Any:
        """What the network says of a batch on its device; may be compiled."""

    def losses(self, answer: Any, batch: Any, *, late: bool) -> dict[str, Tensor]:
        """Scalars that are added, by name. `late`: the learning rate goes down."""
