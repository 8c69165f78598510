"""Recipes: everything that decides how a training run goes, one function each."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from ichnode.imaging.resample import CanonicalGrid
from models.segmenter import SegmenterConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A full configuration. A step reads one batch per process."""

    network: SegmenterConfig = field(default_factory=SegmenterConfig)
    shape: tuple[int, int, int] = (32, 112, 96)  # z, y, x; simulated heads are made in it, centred on the origin
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0)  # z, y, x
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
    hemorrhage_weight: float = 0.25  # of the cross-entropy over hemorrhage alone, until the rate goes down
    hemorrhage_weight_late: float = 0.01  # from then on; all along in a training that only goes down
    warm_up_steps: int = 200
    steps: int | None = None  # None: as long as the hours allow, at a constant learning rate
    decay_steps: int = 0  # at the end of `steps`, down to nothing
    average_decay: float = 0.999  # of the average of the weights
    hours: float | None = None
    save_every_s: float = 300
    validate_every_s: float = 1800

    @property
    def grid(self) -> CanonicalGrid:
        """What simulated heads are made on."""
        z, y, x = (-(count - 1) * step / 2 for count, step in zip(self.shape, self.spacing_mm, strict=True))
        return CanonicalGrid(shape=self.shape, spacing_mm=self.spacing_mm, origin_lps=(x, y, z))

    def on(self, spacing_mm: tuple[float, float, float]) -> "Recipe":
        """The same box in voxels of another size."""
        z, y, x = (
            round(count * old / new) for count, old, new in zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        )
        return replace(self, shape=(z, y, x), spacing_mm=spacing_mm)

    def learning_rate_at(self, step: int) -> float:
        """Up in a line, constant, and down in a line over the last steps, counted from 0."""
        up = min(1.0, (step + 1) / self.warm_up_steps) if self.warm_up_steps else 1.0
        down = min(1.0, (self.steps - step) / self.decay_steps) if self.steps and self.decay_steps else 1.0
        return self.learning_rate * up * down

    def hemorrhage_weight_at(self, step: int) -> float:
        """High until there is something to outline."""
        late = self.steps is not None and step >= self.steps - self.decay_steps
        return self.hemorrhage_weight_late if late else self.hemorrhage_weight

    def average_decay_at(self, step: int) -> float:
        """Low at first, so that the average forgets the random weights."""
        return min(self.average_decay, (1 + step) / (10 + step))


def cpu() -> Recipe:
    """Two cores, hours."""
    return Recipe()


def gpu() -> Recipe:
    """One data-centre GPU, which also makes the patients."""
    return Recipe(device="cuda", batch=8, makers=0, compiled=True, learning_rate=2e-3)


def ddp() -> Recipe:
    """One process for each GPU of one or several machines, started by torchrun."""
    return replace(gpu(), backend="nccl")


class RecipeName(StrEnum):
    """What the command line may ask for."""

    CPU = "cpu"
    GPU = "gpu"
    DDP = "ddp"


RECIPES = {RecipeName.CPU: cpu, RecipeName.GPU: gpu, RecipeName.DDP: ddp}
