"""Scene: what findings that are no hemorrhage are painted into."""

from dataclasses import dataclass

from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.space import Space


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One head with its hemorrhage known but not painted yet."""

    space: Space
    draw: Draw
    hu: Tensor
    covered: Tensor  # share of hemorrhage in each voxel: soft findings do not show through it
