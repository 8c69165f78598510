"""The training loop: numbered batches in, checkpoints and a journal out; killed, it goes on from the last."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from shutil import rmtree

import torch
from torch import Tensor, nn

from models.blocks import fast
from training.data.manifest import DataError
from training.fit.checkpoint import BEST, LAST, Progress, begin, restore, save
from training.fit.group import Group
from training.fit.journal import METRICS, TENSORBOARD, Journal
from training.fit.recipe import Recipe
from training.fit.source import Batch, Source, batches

Validate = Callable[[nn.Module], dict[str, float]]  # a network in evaluation mode to a score, 0-1, for each style
FOREVER = 1 << 40
MOST_PASSED_OVER = 50


class Diverged(Exception):
    """A training that learns nothing any more; its last checkpoint is from before."""


def fit(
    recipe: Recipe,
    source: Source[Batch],
    validate: Validate,
    folder: Path,
    *,
    fresh: bool = False,
    weights: Mapping[str, Tensor] | None = None,
) -> Progress:
    """Train until the steps or the hours of the recipe are over, or SIGTERM or Ctrl-C asks to stop.

    Goes on from the last checkpoint in `folder`, which all machines share, unless `fresh`, which removes what is there.
    Without a checkpoint it begins with `weights`, and with random ones where these are a part. Raises what a source
    raises, DataError for one and for the checkpoint of another network, Diverged, and RuntimeError for weights of
    another network.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    folder.mkdir(parents=True, exist_ok=True)
    group = Group.join(recipe.backend)
    progress = begin(recipe, weights)
    if fresh and group.rank == 0:
        for old in (LAST, BEST, METRICS):
            (folder / old).unlink(missing_ok=True)
        rmtree(folder / TENSORBOARD, ignore_errors=True)
    elif (folder / LAST).exists() and not fresh:
        restore(progress, recipe, folder / LAST)
    try:
        _Run(recipe, group, progress, folder, validate).through(source)
    finally:
        group.leave()
    return progress


@dataclass(slots=True)
class _Clock:
    """Says when something is due again."""

    every_s: float
    last_s: float

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self.last_s < self.every_s:
            return False
        self.last_s = now
        return True


class _Run:
    """One process's part of a training run."""

    def __init__(self, recipe: Recipe, group: Group, progress: Progress, folder: Path, validate: Validate) -> None:
        now = time.monotonic()
        self.recipe, self.group, self.progress, self.folder, self.validate = recipe, group, progress, folder, validate
        self.journal = Journal(folder, progress.step) if group.rank == 0 else None
        self.ends_s = now + recipe.hours * 3600 if recipe.hours is not None else float("inf")
        self.saving, self.validating = _Clock(recipe.save_every_s, now), _Clock(recipe.validate_every_s, now)
        self.stop = threading.Event()
        self._passed_over = 0  # steps in a row
        answer = recipe.system.answer
        is_compiled = recipe.compiled and progress.balance is None  # GradNorm reads its graph twice
        self.answer = torch.compile(answer, dynamic=True) if is_compiled else answer

    def through(self, source: Source[Batch]) -> None:
        """All steps that are left."""
        recipe, group = self.recipe, self.group
        first, last = self.progress.step, recipe.steps if recipe.steps is not None else FOREVER
        each = group.size * recipe.accumulated  # batches of a step
        numbers = range(first * each + group.rank, last * each, group.size)
        with _signals_set(self.stop), batches(source, numbers, makers=recipe.makers, ahead=recipe.ahead) as made:
            while self.progress.step < last and not group.any(self._is_over(), recipe.device):
                try:
                    self._turn(made)
                except (DataError, Diverged, OSError):  # the steps until here are good
                    if self.journal is not None:
                        save(self.progress, recipe, self.folder / LAST)
                    raise
        if self.journal is not None:
            self._end(self.journal)

    def _end(self, journal: Journal) -> None:
        """Whoever asks to stop does not wait for a validation."""
        save(self.progress, self.recipe, self.folder / LAST)
        if not self.stop.is_set():
            self._validate(journal)
            self.progress.is_done = True
        journal.close()

    def _is_over(self) -> bool:
        return self.stop.is_set() or time.monotonic() >= self.ends_s

    def _turn(self, made: Iterator[Batch]) -> None:
        """One step, and what is due after it."""
        began = time.perf_counter()
        read = [next(made) for _ in range(self.recipe.accumulated)]
        waited = time.perf_counter() - began
        values = self._step(read)
        seconds = time.perf_counter() - began
        if self.journal is None:
            return
        self.journal.step(self.progress.step, {**values, "s/step": seconds, "simulator": waited / seconds})
        if self.validating.is_due():
            self._validate(self.journal)
        if self.saving.is_due():
            save(self.progress, self.recipe, self.folder / LAST)

    def _step(self, read: Sequence[Batch]) -> dict[str, float]:
        recipe, progress = self.recipe, self.progress
        rate = recipe.learning_rate_at(progress.step) * (progress.plateau.share if progress.plateau else 1.0)
        for parameters in progress.optimizer.param_groups:
            parameters["lr"] = rate * parameters.get("scale", 1.0)
        torch.manual_seed(recipe.seed + progress.step * self.group.size + self.group.rank)  # of dropout
        progress.optimizer.zero_grad()
        each = [self._losses(batch) for batch in read]
        told = {name: sum(losses[name] for losses in each) / len(each) for name in each[0]}
        self.group.average_gradients(progress.network)
        norm = nn.utils.clip_grad_norm_(progress.network.parameters(), recipe.clip_norm)
        is_sound = bool(norm.isfinite())  # a head that is nearly constant can have gradients without bounds
        if is_sound:
            progress.optimizer.step()
            self._remember(told["loss"])
        self._passed_over = 0 if is_sound else self._passed_over + 1
        if self._passed_over >= MOST_PASSED_OVER:
            raise Diverged(f"step {progress.step}: {MOST_PASSED_OVER} steps in a row had gradients that are no numbers")
        self._average()
        progress.step += 1
        gradient = float(norm) if is_sound else 0.0
        return {**told, "gradient": gradient, "rate": rate, "passed over": float(not is_sound)}

    def _losses(self, batch: Batch) -> dict[str, float]:
        """Of one of the batches of a step, whose share of the gradient is added."""
        recipe, progress = self.recipe, self.progress
        here = batch.to(recipe.device)
        with fast(torch.device(recipe.device)):
            answer = self.answer(progress.network, here)
        losses = recipe.system.losses(answer, here, late=recipe.is_late(progress.step))
        loss = self._weighed(list(losses.values()))
        (loss / recipe.accumulated).backward()  # type: ignore[no-untyped-call]
        parts = {name: float(each.detach()) for name, each in losses.items()} if len(losses) > 1 else {}
        return {"loss": float(loss.detach()), **parts}

    def _remember(self, loss: float) -> None:
        """What the next rate depends on, the same in all processes."""
        if self.progress.plateau is not None:
            mean = torch.tensor(loss, dtype=torch.float64)
            self.group.average(mean)
            self.progress.plateau = self.progress.plateau.after(float(mean))

    def _weighed(self, losses: list[Tensor]) -> Tensor:
        """Their sum, by weights that this batch moves."""
        balance, system = self.progress.balance, self.recipe.system
        if balance is None:
            return torch.stack(losses).sum()
        loss = (torch.stack(losses) * balance.weights.clone().to(losses[0].device)).sum()
        balance.move(losses, system.shared(self.progress.network))
        self.group.average(balance.weights)
        return loss

    def _average(self) -> None:
        kept = self.recipe.average_decay_at(self.progress.step)
        with torch.no_grad():
            average, network = self.progress.average, self.progress.network
            parts = (chain(part.parameters(), part.buffers()) for part in (average, network))
            for mean, now in zip(*parts, strict=True):  # statistics as the weights that they are of (decision 172)
                if now.is_floating_point():
                    mean.lerp_(now, 1 - kept)
                else:
                    mean.copy_(now)

    def _validate(self, journal: Journal) -> None:
        with torch.no_grad():  # what a source keeps must serve training as well: not inference mode
            scores = self.validate(self.progress.average)
        journal.validation(self.progress.step, scores)
        if tuple(scores) != self.progress.styles:  # other styles than before: their scores do not compare
            self.progress.styles, self.progress.best = tuple(scores), -1.0
        if min(scores.values()) > self.progress.best:
            self.progress.best = min(scores.values())
            save(self.progress, self.recipe, self.folder / BEST)
        save(self.progress, self.recipe, self.folder / LAST)  # it knows how good the best is


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask to stop after the step."""
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
