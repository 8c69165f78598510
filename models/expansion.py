"""Hematoma expansion: the CT and the hematoma of the next day, by moving those of the first (system D).

After Abramova et al., Appl Sci 2024, 14(7) 2708, and their code.

- `PublishedExpansion`: a 3-D U-Net without norms says a field, which two linear layers turn into one affine movement of
  the whole patch. The field itself moves nothing, it is only kept smooth: so is their code.
- `DenseExpansion`: a residual U-Net says a velocity at every voxel, whose flow moves the head without folding it, and
  where blood is new, which no movement makes: in the ventricles, or apart. What is known of the patient scales and
  shifts its deepest features (FiLM: Perez et al., AAAI 2018); what is not known counts nothing. The mean of these
  features says how likely each definition of expansion is met.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from monai.networks.blocks import DVF2DDF, Warp
from torch import Tensor, nn
from torch.nn import functional

from models.blocks import ALL_AXES, IN_PLANE, Conv, Stage, decoded, decoder_of, encoded, encoder_of, fast, say
from models.familiarity import Familiarity

CLINICAL = ("onset_to_ct_h", "baseline_ml", "anticoagulant", "systolic_mmhg", "age", "gcs")
_USUAL = ((4.0, 15.0, 0.2, 165.0, 68.0, 12.0), (4.0, 18.0, 0.4, 30.0, 14.0, 3.5))  # about: mean and deviation of each
DEFINITIONS = ("6 mL or 33 %", "3 mL")  # of expansion; growth of parenchymal blood
_STEPS = 7  # of scaling and squaring
_RARE_LOGIT = -5.0  # of new blood, before training


class Followup(NamedTuple):
    """What is predicted for the next day, on the grid of what was read."""

    ct_bcdhw: Tensor  # in the unit that was read
    hematoma_bcdhw: Tensor  # 0-1
    field_bcdhw: Tensor  # (batch, 3, z, y, x): what a loss keeps smooth


class DenseFollowup(NamedTuple):
    """The same of `DenseExpansion`."""

    ct_bcdhw: Tensor
    hematoma_bcdhw: Tensor
    field_bcdhw: Tensor  # velocity, voxels a day
    displacement_bcdhw: Tensor  # its flow, voxels
    new_bcdhw: Tensor  # share of the hematoma that did not move there, 0-1
    expands_bk: Tensor  # logits of DEFINITIONS
    features_bf: Tensor  # the deepest, before they know anything of the patient


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedExpansionConfig:
    """The default is the authors' network."""

    widths: tuple[int, ...] = (64, 128, 256, 512)  # of each resolution, twice that of the one before


class PublishedExpansion(nn.Module):
    """Patches of 64 x 64 x 64 voxels (CT, hematoma) to the next day's; see the module's docstring."""

    patch = 64

    def __init__(self, config: PublishedExpansionConfig = PublishedExpansionConfig()) -> None:
        super().__init__()
        *above, bottom = config.widths
        self.down = nn.ModuleList(map(_double, (2, *above), above))
        self.bottom = _double(above[-1], bottom)
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * width, width, 2, 2) for width in reversed(above))
        self.merge = nn.ModuleList(_double(2 * width, width) for width in reversed(above))
        self.field = nn.Conv3d(above[0], 3, 1)
        self.affine = nn.Sequential(nn.Linear(3 * (self.patch // 4) ** 3, 12), nn.Linear(12, 12))
        say(self.affine[-1], torch.eye(3, 4).flatten())  # moves nothing, before training

    def forward(self, x_bcdhw: Tensor) -> Followup:
        """From (batch, CT and hematoma, 64, 64, 64): CT scaled to 0-1 by its own extremes, hematoma 0 or 1."""
        field = self._field(x_bcdhw)
        pooled = functional.max_pool3d(functional.max_pool3d(field, 2), 2)
        affine_b34 = self.affine(pooled.flatten(1)).view(-1, 3, 4)
        grid = functional.affine_grid(affine_b34, list(x_bcdhw.shape), align_corners=True)
        moved = functional.grid_sample(x_bcdhw, grid, align_corners=True)
        return Followup(ct_bcdhw=moved[:, :1], hematoma_bcdhw=moved[:, 1:], field_bcdhw=field)

    def _field(self, features: Tensor) -> Tensor:
        skips = []
        for stage in self.down:
            features = stage(features)
            skips.append(features)
            features = functional.max_pool3d(features, 2)
        features = self.bottom(features)
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([skips.pop(), up(features)], dim=1))
        field: Tensor = self.field(features)
        return field


def _double(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(width_in, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, width, 3, padding=1), nn.ReLU()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseExpansionConfig:
    """The defaults are the network that ships; its grid is 5 x 2 x 2 mm."""

    stages: tuple[Stage, ...] = (
        Stage(width=16, stride=(1, 1, 1), kernel=IN_PLANE, units=1),
        Stage(width=32, stride=(1, 2, 2), kernel=ALL_AXES, units=1),
        Stage(width=64, stride=(2, 2, 2), kernel=ALL_AXES, units=1),
        Stage(width=96, stride=(2, 2, 2), kernel=ALL_AXES, units=1),
        Stage(width=128, stride=(2, 2, 2), kernel=ALL_AXES, units=1),
    )
    inputs: int = 3  # CT, parenchymal and ventricular blood
    clinical: int = len(CLINICAL)


class DenseExpansion(nn.Module):
    """A head and what is known of the patient to the next day's head; see the module's docstring."""

    usual: Tensor
    spread: Tensor

    def __init__(self, config: DenseExpansionConfig = DenseExpansionConfig()) -> None:
        super().__init__()
        first, deepest = config.stages[0], config.stages[-1]
        self.stem = Conv(config.inputs, first.width, first.kernel)
        self.encoder, self.decoder = encoder_of(config.stages), decoder_of(config.stages)
        self.known = nn.Sequential(nn.Linear(2 * config.clinical, 32), nn.ReLU(), nn.Linear(32, 2 * deepest.width))
        self.expands = nn.Linear(deepest.width, len(DEFINITIONS))
        self.velocity, self.new = nn.Conv3d(first.width, 3, 1), nn.Conv3d(first.width, 1, 1)
        for untrained, said in ((self.known[-1], 0.0), (self.velocity, 0.0), (self.new, _RARE_LOGIT)):
            say(untrained, torch.tensor(said))  # as it was
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "monai.networks.blocks.Warp: Using PyTorch native grid_sample")
            self.flow = DVF2DDF(num_steps=_STEPS, padding_mode="border")
            self.warp: nn.Module = Warp(padding_mode="border")
        self.familiarity = Familiarity(deepest.width)
        mean, deviation = torch.tensor(_USUAL)
        self.register_buffer("usual", mean, persistent=False)
        self.register_buffer("spread", deviation, persistent=False)

    def forward(self, x_bcdhw: Tensor, clinical_bn: Tensor) -> DenseFollowup:
        """From (batch, CT 0-1 and the shares of parenchymal and ventricular blood, z, y, x), in whole strides.

        `clinical_bn` has the values of `CLINICAL`, NaN where unknown.
        """
        with fast(x_bcdhw.device):
            *skips, deepest = encoded(self.stem, self.encoder, x_bcdhw)
            features_bf = deepest.mean(dim=(2, 3, 4)).float()
            deepest = self._in_the_light_of(clinical_bn, deepest)
            expands_bk = self.expands(deepest.mean(dim=(2, 3, 4))).float()
            features = decoded(self.decoder, deepest, skips)[-1]
            velocity, new = self.velocity(features).float(), torch.sigmoid(self.new(features).float())
        displacement = self.flow(velocity)
        moved = self.warp(x_bcdhw, displacement)
        ct, blood = moved[:, :1], moved[:, 1:].sum(1, keepdim=True).clamp(0, 1)
        new = new * (1 - blood)
        return DenseFollowup(
            ct_bcdhw=torch.lerp(ct, _blood_ct(x_bcdhw), new),
            hematoma_bcdhw=blood + new,
            field_bcdhw=velocity,
            displacement_bcdhw=displacement,
            new_bcdhw=new,
            expands_bk=expands_bk,
            features_bf=features_bf,
        )

    @property
    def last_convolution(self) -> nn.Module:
        """The deepest: what speaks for expansion is read from it."""
        return self.encoder[-1]

    def _in_the_light_of(self, clinical_bn: Tensor, deepest: Tensor) -> Tensor:
        """The deepest features, scaled and shifted by what is known of the patient."""
        is_known = clinical_bn.isfinite()
        usual = ((clinical_bn - self.usual) / self.spread).where(is_known, 0.0)
        scale, shift = self.known(torch.cat([usual, is_known.float()], dim=1))[:, :, None, None, None].chunk(2, dim=1)
        conditioned: Tensor = deepest * (1 + scale) + shift
        return conditioned


def _blood_ct(x_bcdhw: Tensor) -> Tensor:
    """(batch, 1, 1, 1, 1): the mean CT value of the blood that is there, 0.6 where none is."""
    blood = x_bcdhw[:, 1:].sum(1, keepdim=True).clamp(0, 1)
    total = blood.sum(dim=(1, 2, 3, 4), keepdim=True)
    mean: Tensor = (blood * x_bcdhw[:, :1]).sum(dim=(1, 2, 3, 4), keepdim=True) / total.clamp_min(1e-6)
    return mean.where(total > 0, 0.6)


def jacobian_determinant(displacement_bcdhw: Tensor) -> Tensor:
    """(batch, z - 1, y - 1, x - 1), by forward differences of a displacement in voxels: above 0 nothing is folded."""
    z, y, x = (size - 1 for size in displacement_bcdhw.shape[2:])
    parts = [displacement_bcdhw.diff(dim=axis)[:, :, :z, :y, :x] for axis in (2, 3, 4)]
    still = torch.eye(3, device=displacement_bcdhw.device)
    along_z, along_y, along_x = (part + step.view(3, 1, 1, 1) for part, step in zip(parts, still, strict=True))
    determinant: Tensor = (torch.linalg.cross(along_z, along_y, dim=1) * along_x).sum(dim=1)
    return determinant
