"""Patients, and what is known of them and became of them as numbers."""

from dataclasses import dataclass
from math import nan, prod

import torch
from torch import Tensor

from models.expansion import CLINICAL
from training.data.manifest import LABEL_VALUES, UNKNOWN
from training.fit.source import Batch
from training.simulate.draw import Draw
from training.simulate.spec import PatientSpec

KNOWN = CLINICAL  # at the first CT
_NOT_IN_A_HEADER = torch.tensor([name not in ("baseline_ml", "age") for name in KNOWN])
BECAME = ("conventional expansion", "3 mL expansion", "death in 30 days", "poor after 90 days", "late hemorrhage")
_GROWTH_ML, _GROWTH_SHARE, _SMALL_GROWTH_ML = 6.0, 0.33, 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patients(Batch):
    """Aligned pairs of CTs on one grid. Labels are uint8: 0 none, 1-5 types, 255 unknown."""

    hu_bdhw: Tensor  # float32
    labels_bdhw: Tensor
    later_hu_bdhw: Tensor
    later_labels_bdhw: Tensor
    brain_bdhw: Tensor  # boolean, of the first CT; all of it where no skull is found, or nobody asks
    known_bn: Tensor  # float32, as KNOWN; NaN: not known
    became_bn: Tensor  # float32, as BECAME: 0 or 1, NaN where it is not known or says nothing of this patient

    def volume_ml(self, *types: str, spacing_mm: tuple[float, float, float]) -> Tensor:
        """Blood of some types on the first CT of each patient; NaN where a part of it is not known."""
        of_types = torch.stack([self.labels_bdhw == LABEL_VALUES[type_] for type_ in types]).any(dim=0)
        is_known = (self.labels_bdhw != UNKNOWN).flatten(1).all(dim=1)
        return (of_types.sum(dim=(1, 2, 3)) * prod(spacing_mm) / 1000).where(is_known, nan)


def known_of(spec: PatientSpec, baseline_ml: float) -> list[float]:
    """As KNOWN; `baseline_ml` is what the first CT shows."""
    return [spec.onset_to_ct_h, baseline_ml, float(spec.anticoagulant), spec.systolic_mmhg, spec.age, float(spec.gcs)]


def told(known_bn: Tensor, draw: Draw, *, unknown: float, header_alone: float) -> Tensor:
    """What a network is told of it, as KNOWN: without a share of all, and of some patients what a header says alone."""
    each, patient = (
        torch.special.ndtr(x)
        for x in (draw.normals("told", *known_bn.shape), draw.normals("header alone", len(known_bn)))
    )
    is_hidden = (each < unknown) | ((patient < header_alone)[:, None] & _NOT_IN_A_HEADER)
    return known_bn.masked_fill(is_hidden, torch.nan)


def expands(first_ml: float, later_ml: float) -> tuple[float, float]:
    """0 or 1 by the two definitions of BECAME, from parenchymal blood on both CTs."""
    grown_ml = later_ml - first_ml
    return float(grown_ml >= min(_GROWTH_ML, _GROWTH_SHARE * first_ml)), float(grown_ml >= _SMALL_GROWTH_ML)


def became_of(spec: PatientSpec) -> list[float]:
    """As BECAME. Expansion is that of spontaneous parenchymal hemorrhage."""
    outcome, growth = spec.outcome, spec.expansion
    grew = [float(growth.conventional), float(growth.growth_ml >= _SMALL_GROWTH_ML)]
    return [
        *(grew if spec.kind == "iph" else [nan, nan]),
        float(outcome.death_30d),
        float(outcome.poor_90d),
        nan if spec.thrombectomy_hemorrhage is None else float(spec.thrombectomy_hemorrhage),
    ]
