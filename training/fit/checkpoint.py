"""Checkpoint: all that a training needs to go on as if it had never stopped.

Batches are numbered and each step has a seed of its own, so there is no random state to keep.
"""

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from training.data.manifest import DataError
from training.fit.optimizers import OPTIMIZERS
from training.fit.plateau import Plateau
from training.fit.recipe import Recipe
from training.fit.system import System
from training.losses.gradnorm import GradNorm

LAST, BEST = "last.pt", "best.pt"

S = TypeVar("S", bound=System)


@runtime_checkable
class _Renewable(Protocol):
    """A module that holds what is true of one training alone."""

    def renew(self) -> None:
        """Another training begins with its weights."""


@dataclass(slots=True, kw_only=True, eq=False)
class Progress:
    """What changes in training."""

    network: nn.Module
    average: nn.Module  # of the weights: what is validated and exported
    optimizer: Optimizer
    balance: GradNorm | None
    plateau: Plateau | None
    step: int = 0  # steps done
    best: float = -1.0  # score of the worst style
    styles: tuple[str, ...] = ()  # that were validated
    is_done: bool = False  # this process validated at the end of all steps, or hours


def begin(recipe: Recipe, weights: Mapping[str, Tensor] | None = None) -> Progress:
    """Before the first step: weights from the seed, but those given. Raises RuntimeError where they do not fit."""
    torch.manual_seed(recipe.seed)
    network = recipe.system.network().to(recipe.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = OPTIMIZERS[recipe.optimizer](network, recipe.weight_decay)
    if weights is not None:
        network.load_state_dict(network.state_dict() | dict(weights))
        for module in network.modules():
            if isinstance(module, _Renewable):
                module.renew()
    average = deepcopy(network).requires_grad_(False).eval()
    return Progress(
        network=network,
        average=average,
        optimizer=optimizer,
        balance=recipe.system.balance(),
        plateau=Plateau() if recipe.schedule == "plateau" else None,
    )


def save(progress: Progress, recipe: Recipe, path: Path) -> None:
    """Replaces `path` as a whole or not at all."""
    stored = {
        "step": progress.step,
        "best": progress.best,
        "styles": progress.styles,
        "network": progress.network.state_dict(),
        "average": progress.average.state_dict(),
        "optimizer": progress.optimizer.state_dict(),
        "balance": progress.balance.state_dict() if progress.balance else None,
        "plateau": asdict(progress.plateau) if progress.plateau else None,
        "recipe": asdict(recipe),
        "system": type(recipe.system).__name__,
    }
    temporary = path.with_suffix(".writing")
    with temporary.open("wb") as file:
        torch.save(stored, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def restore(progress: Progress, recipe: Recipe, path: Path) -> None:
    """Bring `progress` to where the checkpoint was. Raises DataError for another training.

    That is one of another system, network or optimizer, or one that learned from other own patients.
    """
    stored = read(path, type(recipe.system))
    must_be_of(stored, recipe.system, path)
    moved_by = stored["recipe"].get("optimizer", "scaled AdamW")  # there was no other
    if moved_by != recipe.optimizer:
        raise DataError(f"{path} is of a training by {moved_by}, not by {recipe.optimizer}")
    _must_learn_from_the_same(stored, recipe, path)
    progress.step, progress.best = stored["step"], stored["best"]
    progress.styles = tuple(stored["styles"])
    parts: list[nn.Module] = [progress.network, progress.average]
    for part, name in zip(parts, ("network", "average"), strict=True):
        part.load_state_dict(stored[name])
    progress.optimizer.load_state_dict(stored["optimizer"])
    if progress.balance:
        progress.balance.load_state_dict(stored["balance"])
    if progress.plateau and stored.get("plateau"):
        progress.plateau = Plateau(**stored["plateau"])


def must_be_of(stored: dict[str, Any], system: System, path: Path) -> None:
    """Raises DataError where another network was trained."""
    there, here = system_of(stored, type(system)).config, system.config
    if there != here:
        raise DataError(f"{path} is of another network: {there}, not {here}")


def _must_learn_from_the_same(stored: dict[str, Any], recipe: Recipe, path: Path) -> None:
    """Own patients may come to simulated ones. What was not written down, before there was `own`, is taken to be."""
    there = stored["recipe"].get("own")
    if there and recipe.own is None:
        raise DataError(f"{path} learned from own patients: go on with the same --data, or begin with --start-from")
    if there and recipe.own and (unlike := recipe.own.unlike(there)):
        raise DataError(f"{path} learned from other own patients: {unlike}; begin with another --out")


def system_of(stored: dict[str, Any], kind: type[S]) -> S:
    """The one that was trained. Raises DataError where this version has no such system."""
    try:
        return TypeAdapter(kind).validate_python(stored["recipe"]["system"])
    except ValidationError as problem:
        raise DataError(f"the checkpoint is of an older network: {problem.errors()[0]['msg']}") from problem


def read(path: Path, *systems: type[System]) -> dict[str, Any]:
    """What is stored, on the CPU. Raises DataError for the checkpoint of another system."""
    stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    names = [system.__name__ for system in systems]
    if stored.get("system") not in names:
        raise DataError(
            f"{path} is a checkpoint of {stored.get('system', 'an older ichnode')}, not of {' or '.join(names)}"
        )
    return stored
