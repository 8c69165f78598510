"""Recipes of the machines that a system may be trained on, one function each."""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import torch

from training.fit.recipe import Recipe
from training.fit.system import System


def cpu(system: System) -> Recipe:
    """Two cores, hours."""
    return Recipe(system=system)


def gpu(system: System) -> Recipe:
    """One data-centre GPU, which also makes the patients."""
    return Recipe(system=system, device="cuda", batch=8, makers=0, compiled=True, learning_rate=2e-3)


def ddp(system: System) -> Recipe:
    """As many processes as torchrun started: one for each GPU of one or several machines, or for each core without."""
    return replace(gpu(system), backend="nccl") if torch.cuda.is_available() else replace(cpu(system), backend="gloo")


class RecipeName(StrEnum):
    """What the command line may ask for."""

    CPU = "cpu"
    GPU = "gpu"
    DDP = "ddp"


RECIPES: dict[RecipeName, Callable[[System], Recipe]] = {RecipeName.CPU: cpu, RecipeName.GPU: gpu, RecipeName.DDP: ddp}
