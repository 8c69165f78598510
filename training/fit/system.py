"""System: what the loop trains. Each has a folder of its own beside `fit`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from torch import Tensor, nn

from ichnode.imaging.resample import CanonicalGrid
from training.losses.gradnorm import GradNorm
from training.simulate.planes import around_origin


class System(ABC):
    """A network and what it minimises: a dataclass of plain values, which stand in the checkpoint."""

    config: Any  # dataclass that its network is built from
    spacing_mm: tuple[float, float, float]  # z, y, x

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y and x of the box that patients are made in."""

    @property
    def grid(self) -> CanonicalGrid:
        """What simulated heads are made on."""
        return around_origin(self.shape, self.spacing_mm)

    def regridded(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Self:
        """The same on another grid; here of a network that is built for its shape."""
        return replace(self, config=replace(self.config, shape=shape), spacing_mm=spacing_mm)  # type: ignore[type-var]

    @abstractmethod
    def network(self) -> nn.Module:
        """With random weights."""

    def weights_from(self, network: nn.Module) -> Mapping[str, Tensor] | None:
        """What its own network can begin with of another, all or a part by name; None of one built otherwise."""
        is_like_it = isinstance(network, type(self.network())) and network.config == self.config
        return network.state_dict() if is_like_it else None

    @abstractmethod
    def answer(self, network: Any, batch: Any) -> Any:
        """What the network says of a batch on its device; may be compiled."""

    @abstractmethod
    def losses(self, answer: Any, batch: Any, *, late: bool) -> dict[str, Tensor]:
        """Scalars that are added, by name, as `balance` weighs them. `late`: the learning rate goes down."""

    @property
    def is_whole(self) -> bool:
        """Whether it learns all that its pipeline says; ablations do not."""
        return True

    def measured(self, network: nn.Module) -> nn.Module:
        """What is asked of whole heads: the network, unless it reads parts of them."""
        return network

    def balance(self) -> GradNorm | None:
        """What weighs the losses, anew after each step; None: all weigh 1."""
        return None

    def shared(self, network: Any) -> Sequence[Tensor]:
        """The weights at which losses are balanced."""
        return ()
