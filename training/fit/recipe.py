"""Recipe: everything that decides how a training run goes."""

from dataclasses import dataclass

from training.fit.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A full configuration. A step reads one batch per process."""

    system: System
    batch: int = 1  # heads
    seed: int = 20261121
    device: str = "cpu"
    backend: str | None = None  # of torch.distributed; None: one process
    compiled: bool = False
    threads: int | None = None  # of torch in the training process; None: as torch chooses
    makers: int = 1  # processes that make batches ahead; 0: made when asked for, in the training process
    ahead: int = 8  # batches that may wait
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    clip_norm: float = 1.0  # of the gradient
    warm_up_steps: int = 200
    steps: int | None = None  # None: as long as the hours allow, at a constant learning rate
    decay_steps: int = 0  # at the end of `steps`, down to nothing
    average_decay: float = 0.999  # of the average of the weights
    hours: float | None = None
    save_every_s: float = 300
    validate_every_s: float = 1800

    def learning_rate_at(self, step: int) -> float:
        """Up in a line, constant, and down in a line over the last steps, counted from 0."""
        up = min(1.0, (step + 1) / self.warm_up_steps) if self.warm_up_steps else 1.0
        down = min(1.0, (self.steps - step) / self.decay_steps) if self.steps and self.decay_steps else 1.0
        return self.learning_rate * up * down

    def is_late(self, step: int) -> bool:
        """Whether the learning rate goes down; all along in a training that only goes down."""
        return self.steps is not None and step >= self.steps - self.decay_steps

    def average_decay_at(self, step: int) -> float:
        """Low at first, so that the average forgets the random weights."""
        return min(self.average_decay, (1 + step) / (10 + step))
