"""Simulated patients on the training grid, against the training steps that eat them.

A patient here is new each time: anatomy, hemorrhage, mass effect and one scan. On a CPU as many processes as cores make
them, on a GPU this one. Where a step takes longer than a patient, the simulator never keeps the training waiting;
training itself shows each patient through several scanners.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count, islice
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
_CORES = len(os.sched_getaffinity(0))
GOAL = {"cpu": ">= 2 patients/s on two cores", "cuda": ">= 50 patients/s"}


def measure(*, shape: tuple[int, int, int] | None = None, patients: int = 8, rounds: int = 3) -> list[Row]:
    """Patients a second on the CPU, and on the GPU where there is one. `shape` (z, y, x) instead of the recipe's."""
    system = SegmenterSystem(shape=shape) if shape else SegmenterSystem()
    recipes = [cpu(system), *([replace(gpu(system), compiled=False)] if torch.cuda.is_available() else [])]
    return [row for recipe in recipes for row in _case(system, recipe, patients, rounds)]


def _case(system: SegmenterSystem, recipe: Recipe, patients: int, rounds: int) -> list[Row]:
    with ProcessPoolExecutor(_CORES, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return _measured(system, recipe, patients, rounds, pool if recipe.device == "cpu" else None)


def _measured(
    system: SegmenterSystem, recipe: Recipe, patients: int, rounds: int, pool: ProcessPoolExecutor | None
) -> list[Row]:
    """`pool`: makes patients side by side, a process a core; None: this process makes them."""
    atlas_of(TRAINING, recipe.device)
    source = SimulatedSource(
        grid=system.grid, style=TRAINING, device=recipe.device, heads=recipe.batch, showings=1, recent=1, few_slices=0
    )
    batches = max(2 * _CORES, patients // recipe.batch)
    numbers = count()
    step, made = _training_step(recipe), source.batch(next(numbers))
    fresh = replace(source)  # without a head that each task would carry

    def make(batches: int) -> None:
        each = pool.map if pool else map
        list(each(partial(_made, fresh), islice(numbers, batches)))

    def learn(batches: int) -> None:
        for _ in range(batches):
            step(made)

    make(2 * _CORES)
    learn(1)  # kernels chosen, memory taken
    contestants = {
        ICHNODE: partial(_rate, recipe, batches, make),
        STEP: partial(_rate, recipe, batches, learn),
    }
    measured = alternated(contestants, rounds=rounds)
    grid = " x ".join(map(str, system.shape))
    makers, learner = f"{_CORES} processes of one thread", f"{torch.get_num_threads()} threads"
    if not pool:
        makers = learner = torch.cuda.get_device_name()
    return [
        Row(
            case=f"{recipe.device}, {grid}",
            contestant=name,
            setting=setting,
            value=median(measured[name]),
            unit="patients/s",
            ratio=ratios(measured[ICHNODE], measured[name]) if name != ICHNODE else None,
            goal=GOAL[recipe.device] if name == ICHNODE else "",
        )
        for name, setting in (
            (ICHNODE, f"a new patient each, first CT, one scan; {makers}"),
            (STEP, f"batch {recipe.batch}, as the trainer does it: forward, backward, AdamW; {learner}"),
        )
    ]


def _made(source: SimulatedSource, number: int) -> None:
    source.batch(number)


def _rate(recipe: Recipe, batches: int, work: Callable[[int], None]) -> float:
    """Patients a second."""
    began = perf_counter()
    work(batches)
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
