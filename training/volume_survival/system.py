"""Volume and survival: the cube root of the volume as a number, survival as a class."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from models.blocks import Size
from models.volume_survival import COMPACT, Answers, VolumeSurvival, VolumeSurvivalConfig, size_of
from training.fit.system import System
from training.losses.known import known_loss
from training.patients.batch import BECAME, KNOWN, Patients

DIED, _BASELINE_ML = BECAME.index("death in 30 days"), KNOWN.index("baseline_ml")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSurvivalSystem(System):
    """The network and the weights of its tasks, 0 for a task that is left out."""

    config: VolumeSurvivalConfig = COMPACT
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0)  # z, y, x
    volume: float = 1.0
    survival: float = 1.0
    death_rate: float = 0.35  # about; both classes weigh alike

    @property
    def shape(self) -> Size:
        """What the network was built for."""
        return self.config.shape

    @property
    def is_whole(self) -> bool:
        """Both tasks."""
        return self.volume > 0 and self.survival > 0

    def network(self) -> VolumeSurvival:
        """With random weights."""
        return VolumeSurvival(self.config)

    def answer(self, network: VolumeSurvival, batch: Patients) -> Answers:
        """Size and logits of survival."""
        return network(batch.hu_bdhw[:, None])  # type: ignore[no-any-return]

    def losses(self, answer: Answers, batch: Patients, *, late: bool) -> dict[str, Tensor]:
        """Squared error of the size in cm, and weighted cross-entropy of survival, each where it is known."""
        losses = {}
        if self.volume:
            losses["volume"] = self.volume * known_loss(functional.mse_loss, answer.size_b, size_of(volume_ml(batch)))
        if self.survival:
            losses["survival"] = self.survival * known_loss(
                self._survival_loss, answer.died_bk, batch.became_bn[:, DIED]
            )
        return losses

    def _survival_loss(self, logits_bk: Tensor, died_b: Tensor) -> Tensor:
        weights = logits_bk.new_tensor([0.5 / (1 - self.death_rate), 0.5 / self.death_rate])
        each = functional.cross_entropy(logits_bk, died_b.long(), weights, reduction="none")
        return each.mean()


def volume_ml(batch: Patients) -> Tensor:
    """Parenchymal blood of each patient, NaN where it is not known."""
    return batch.known_bn[:, _BASELINE_ML]
