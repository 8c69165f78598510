"""A network and heads so small that a training step takes milliseconds."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from models.blocks import ALL_AXES, IN_PLANE, Stage
from models.segmenter import SegmenterConfig
from training.fit.recipe import Recipe
from training.fit.recipes import cpu
from training.segmentation.system import Heads, SegmenterSystem

TINY = SegmenterConfig(
    stages=(
        Stage(width=4, stride=(1, 1, 1), kernel=IN_PLANE, units=1),
        Stage(width=8, stride=(1, 2, 2), kernel=IN_PLANE, units=1),
        Stage(width=8, stride=(2, 2, 2), kernel=ALL_AXES, units=1),
    )
)


@dataclass(frozen=True)
class Cubes:
    """Noise of brain with a bright cube of IPH, whose place the number decides."""

    size: int = 16

    def batch(self, number: int) -> Heads:
        random = torch.Generator().manual_seed(number)
        hu = torch.randn((1, 8, self.size, self.size), generator=random) * 5 + 30
        labels = torch.zeros(hu.shape, dtype=torch.uint8)
        row = int(torch.randint(self.size - 6, (), generator=random))
        labels[:, 2:6, row : row + 6, 4:10] = 1
        return Heads(hu_bdhw=hu + 40 * labels, labels_bdhw=labels)


@dataclass(frozen=True)
class FailsAt:
    """`Cubes`, until a batch cannot be made."""

    number: int

    def batch(self, number: int) -> Heads:
        if number == self.number:
            raise ValueError(f"no head number {number}")
        return Cubes().batch(number)


def nothing_to_validate(network: nn.Module) -> dict[str, float]:
    return {"any": 0.5}


def tiny_recipe(**changes: object) -> Recipe:
    recipe = replace(cpu(SegmenterSystem(config=TINY)), makers=0, threads=1, warm_up_steps=2, steps=6)
    return replace(recipe, **changes)  # type: ignore[arg-type]
