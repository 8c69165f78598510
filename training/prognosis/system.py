"""Prognosis: three tasks on one trunk, and the rows of the paper's ablation as switches.

Outcomes are mostly chance: from them alone nothing was learned in 640 steps. So the trunk is also asked for what a CT
shows outright, how much blood there is and how old the brain looks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.blocks import Size
from models.perez import Perez, PerezConfig
from models.prognosis import COMPACT, Answers, Prognosis, PrognosisConfig, gcs_units
from models.volume_survival import size_of
from training.fit.system import System
from training.losses.known import known_loss
from training.patients.batch import BECAME, KNOWN, Patients

_AGE, _GCS, _POOR = KNOWN.index("age"), KNOWN.index("gcs"), BECAME.index("poor after 90 days")
_ELDERLY, _USUAL_AGE = 80.0, 70.0  # years; the second is about the mean
_USUAL_ML, _LEAST = 20.0, -12.0  # about; of what softplus reads


@dataclass(frozen=True, slots=True, kw_only=True)
class PrognosisSystem(System):
    """The network and the weights of its tasks, 0 for a task that is left out: of `Perez` all but the outcome."""

    config: PrognosisConfig | PerezConfig = COMPACT
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0)  # z, y, x
    poor: float = 0.4
    gcs: float = 0.3
    elderly: float = 0.3
    taught: float = 1.0  # not in the paper
    ordinal: bool = True  # GCS in three categories; else 8 or less against more

    @property
    def shape(self) -> Size:
        """What the network was built for."""
        return self.config.shape

    @property
    def learns(self) -> dict[str, bool]:
        """Of each task, whether it is one."""
        return {"poor": self.poor > 0, "low_gcs": self.gcs > 0, "elderly": self.elderly > 0}

    @property
    def is_whole(self) -> bool:
        """All three tasks, GCS in categories."""
        return all(self.learns.values()) and self.ordinal

    def network(self) -> Prognosis | Perez:
        """With random weights."""
        return Perez(self.config) if isinstance(self.config, PerezConfig) else Prognosis(self.config)

    def answer(self, network: Prognosis | Perez, batch: Patients) -> Answers:
        """Logits of the three tasks."""
        return network(batch.hu_bdhw[:, None])  # type: ignore[no-any-return]

    def losses(self, answer: Answers, batch: Patients, *, late: bool) -> dict[str, Tensor]:
        """Binary cross-entropy of each task, over the patients of whom the truth is known."""
        truth = truth_of(batch)
        units = slice(None) if self.ordinal else slice(1, None)
        terms = {
            "poor": (self.poor, answer.poor_b, truth.poor_b),
            "gcs": (self.gcs, answer.gcs_bu[:, units], truth.gcs_bu[:, units]),
            "elderly": (self.elderly, answer.elderly_b, truth.elderly_b),
        }
        losses = {
            name: weight * known_loss(functional.binary_cross_entropy_with_logits, logits, true)
            for name, (weight, logits, true) in terms.items()
            if weight
        }
        if self.taught:
            said_bn, truth_bn = taught_said(answer.taught_bn.float()), taught_of(batch, self.spacing_mm)
            losses["taught"] = self.taught * known_loss(functional.mse_loss, said_bn, truth_bn)
        return losses


class Truth(NamedTuple):
    """0 or 1 for each answer; NaN where it is not known."""

    poor_b: Tensor
    gcs_bu: Tensor
    elderly_b: Tensor


def truth_of(batch: Patients) -> Truth:
    """What the network should answer."""
    gcs_b, age_b = batch.known_bn[:, _GCS], batch.known_bn[:, _AGE]
    units_bu = gcs_units(gcs_b)
    return Truth(
        poor_b=batch.became_bn[:, _POOR],
        gcs_bu=units_bu.where(gcs_b.isfinite()[:, None], torch.nan),
        elderly_b=(age_b >= _ELDERLY).float().where(age_b.isfinite(), torch.nan),
    )


def taught_said(taught_bn: Tensor) -> Tensor:
    """(patient, TAUGHT): sizes in cm of mL that are added up, and decades from the usual age."""
    volumes_ml = _USUAL_ML * functional.softplus(taught_bn[:, :2].clamp_min(_LEAST))
    return torch.cat([size_of(volumes_ml), taught_bn[:, 2:] + _USUAL_AGE / 10], dim=1)


def taught_of(batch: Patients, spacing_mm: tuple[float, float, float]) -> Tensor:
    """The same, as it is true."""
    sizes = [size_of(batch.volume_ml(type_, spacing_mm=spacing_mm)) for type_ in ("IPH", "IVH")]
    return torch.stack([*sizes, batch.known_bn[:, _AGE] / 10], dim=1)
