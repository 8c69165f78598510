"""Recipe: everything that decides how a training run goes."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

from training.fit.learned_from import LearnedFrom
from training.fit.optimizers import OptimizerName
from training.fit.system import System

Schedule = Literal["line", "cosine", "plateau"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A full configuration, of plain values, which stand in the checkpoint."""

    system: System
    batch: int = 1  # heads
    accumulated: int = 1  # batches that a process reads for a step
    seed: int = 20261121
    own: LearnedFrom | None = None  # None: simulated patients alone
    begun_from: str | None = None  # a bundle or a training; None: nothing
    device: str = "cpu"
    backend: str | None = None  # of torch.distributed; None: one process
    compiled: bool = False
    threads: int | None = None  # of torch in the training process; None: as torch chooses
    makers: int = 1  # processes that make batches ahead; 0: made when asked for, in the training process
    ahead: int = 8  # batches that may wait
    optimizer: OptimizerName = "scaled AdamW"
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    clip_norm: float = 1.0  # of the gradient; infinite: as it is
    schedule: Schedule = "line"  # in which the rate falls; plateau: cut as the losses say, beside the fall in a line
    warm_up_steps: int = 200
    steps: int | None = None  # None: as long as the hours allow, at a constant learning rate
    decay_steps: int = 0  # at the end of `steps`, down to nothing; 0 in a cosine: all after the warm-up
    average_decay: float = 0.999  # of the average of the weights; 0: they are their own average
    hours: float | None = None
    save_every_s: float = 300
    validate_every_s: float = 1800

    def learning_rate_at(self, step: int) -> float:
        """Up in a line, constant, and down over the last steps, counted from 0; a plateau cuts this further."""
        up = min(1.0, (step + 1) / self.warm_up_steps) if self.warm_up_steps else 1.0
        down = min(1.0, (self.steps - step) / self._falls) if self.steps and self._falls else 1.0
        return self.learning_rate * up * ((1 - cos(pi * down)) / 2 if self.schedule == "cosine" else down)

    def is_late(self, step: int) -> bool:
        """Whether the learning rate goes down; all along in a training that only goes down."""
        return self.steps is not None and step >= self.steps - self._falls

    @property
    def _falls(self) -> int:
        """Steps in which the rate goes down."""
        if self.schedule == "cosine" and not self.decay_steps:
            return max(0, (self.steps or 0) - self.warm_up_steps)
        return self.decay_steps

    def average_decay_at(self, step: int) -> float:
        """Low at first, so that the average forgets the random weights."""
        return min(self.average_decay, (1 + step) / (10 + step))
