"""Simulated patients on the training grid, against the training steps that eat them.

A patient here is new each time: anatomy, hemorrhage, mass effect and one scan. Where a step takes longer than a
patient, the simulator never keeps the training waiting; training itself shows each patient through several scanners.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter

import torch

from models.blocks import fast
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios
from training.fit.checkpoint import begin
from training.fit.recipe import Recipe
from training.fit.recipes import cpu, gpu
from training.segmentation.simulated import SimulatedSource
from training.segmentation.system import Heads, SegmenterSystem
from training.simulate.atlas import atlas_of
from training.simulate.styles import TRAINING

TITLE = "Simulated patients, and training steps on as many of them"
STEP = "training step"
GOAL = {"cpu": ">= 2 patients/s on two cores", "cuda": ">= 50 patients/s"}


def measure(*, shape: tuple[int, int, int] | None = None, patients: int = 8, rounds: int = 3) -> list[Row]:
    """Patients a second on the CPU, and on the GPU where there is one. `shape` (z, y, x) instead of the recipe's."""
    system = SegmenterSystem(shape=shape) if shape else SegmenterSystem()
    recipes = [cpu(system), *([replace(gpu(system), compiled=False)] if torch.cuda.is_available() else [])]
    return [row for recipe in recipes for row in _case(system, recipe, patients, rounds)]


def _case(system: SegmenterSystem, recipe: Recipe, patients: int, rounds: int) -> list[Row]:
    atlas_of(TRAINING, recipe.device)
    source = SimulatedSource(
        grid=system.grid, style=TRAINING, device=recipe.device, heads=recipe.batch, showings=1, recent=1, few_slices=0
    )
    batches = max(1, patients // recipe.batch)
    numbers = count()
    step, made = _training_step(recipe), source.batch(next(numbers))
    step(made)  # kernels chosen, memory taken
    contestants: dict[str, Callable[[], float]] = {
        ICHNODE: partial(_rate, recipe, batches, lambda: source.batch(next(numbers))),
        STEP: partial(_rate, recipe, batches, lambda: step(made)),
    }
    measured = alternated(contestants, rounds=rounds)
    grid = " x ".join(map(str, system.shape))
    threads = f"{torch.get_num_threads()} threads" if recipe.device == "cpu" else torch.cuda.get_device_name()
    return [
        Row(
            case=f"{recipe.device}, {grid}",
            contestant=name,
            setting=f"{setting}; {threads}",
            value=median(measured[name]),
            unit="patients/s",
            ratio=ratios(measured[ICHNODE], measured[name]) if name != ICHNODE else None,
            goal=GOAL[recipe.device] if name == ICHNODE else "",
        )
        for name, setting in (
            (ICHNODE, "a new patient each, first CT, one scan"),
            (STEP, f"batch {recipe.batch}, as the trainer does it: forward, backward, AdamW"),
        )
    ]


def _rate(recipe: Recipe, batches: int, work: Callable[[], object]) -> float:
    """Patients a second."""
    began = perf_counter()
    for _ in range(batches):
        work()
    if recipe.device != "cpu":
        torch.cuda.synchronize()
    return batches * recipe.batch / (perf_counter() - began)


def _training_step(recipe: Recipe) -> Callable[[Heads], None]:
    """One step as the trainer does it, without its journal."""
    progress = begin(recipe)

    def step(batch: Heads) -> None:
        with fast(torch.device(recipe.device)):
            answer = recipe.system.answer(progress.network, batch)
        progress.optimizer.zero_grad()
        recipe.system.losses(answer, batch, late=False)["segmentation"].backward()
        progress.optimizer.step()

    return step
