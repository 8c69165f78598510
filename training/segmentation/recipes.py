"""Recipes of the segmenter, one function each."""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from training.fit.recipe import Recipe
from training.segmentation.system import Segmentation

Make = Callable[[Segmentation], Recipe]


def cpu(system: Segmentation) -> Recipe:
    """Two cores, hours."""
    return Recipe(system=system)


def gpu(system: Segmentation) -> Recipe:
    """One data-centre GPU, which also makes the patients."""
    return Recipe(system=system, device="cuda", batch=8, makers=0, compiled=True, learning_rate=2e-3)


def ddp(system: Segmentation) -> Recipe:
    """One process for each GPU of one or several machines, started by torchrun."""
    return replace(gpu(system), backend="nccl")


class RecipeName(StrEnum):
    """What the command line may ask for."""

    CPU = "cpu"
    GPU = "gpu"
    DDP = "ddp"


RECIPES: dict[RecipeName, Make] = {RecipeName.CPU: cpu, RecipeName.GPU: gpu, RecipeName.DDP: ddp}
