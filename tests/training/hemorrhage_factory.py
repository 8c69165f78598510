"""A head of ellipsoids, in which tests know where everything lies, and lesions for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ichnode.imaging.resample import CanonicalGrid
from training.simulate.draw import Draw
from training.simulate.hemorrhage import Hemorrhage, fluid, solid
from training.simulate.space import Space
from training.simulate.spec import Lesion

SPACING = (2.5, 2.0, 2.0)


def ellipsoid_head(spacing_mm: tuple[float, float, float] = SPACING) -> Space:
    """ICBM152 coordinates are RAS; a skull, two lateral ventricles, a mantle of grey matter and of CSF."""
    z, y, x = (torch.arange(-span / 2, span / 2, d) for span, d in zip((150, 190, 150), spacing_mm, strict=True))
    grid = CanonicalGrid(
        shape=(len(z), len(y), len(x)), spacing_mm=spacing_mm, origin_lps=(float(x[0]), float(y[0]), float(z[0]))
    )
    z_mni, y_mni, x_mni = torch.meshgrid(z + 4, -y - 18, -x, indexing="ij")
    mni = torch.stack((x_mni, y_mni, z_mni))
    depth = _depth_mm(mni, (0, -18, 4), (68, 86, 66))
    side = torch.stack((mni[0].abs(), mni[1], mni[2]))
    ventricle = (_depth_mm(side, (12, -10, 14), (8, 34, 12)) / 1.5 + 0.5).clamp(0, 1)
    csf = (1.5 - depth / 2).clamp(0, 1) * (depth > 0)
    tissue = (depth > 0) * (1 - csf) * (1 - ventricle)
    white = tissue * ((depth - 6) / 2).clamp(0, 1)
    return Space(
        grid=grid,
        mni_mm=mni,
        depth_mm=depth,
        grey=tissue - white,
        white=white,
        ventricle=ventricle * (1 - csf),
        csf=csf,
    )


def _depth_mm(mni: Tensor, centre: tuple[int, int, int], radii: tuple[int, int, int]) -> Tensor:
    offset = (mni - torch.tensor(centre)[:, None, None, None]) / torch.tensor(radii)[:, None, None, None]
    distance: Tensor = offset.square().sum(0).sqrt()
    return (1 - distance) * min(radii)


@dataclass(frozen=True)
class Bleeding:
    """Lesions in the ellipsoid head, and how they are painted when a test does not say."""

    lesions: tuple[Lesion, ...]
    seed: int = 1
    hematocrit: float = 0.42

    def painted(self, space: Space, *, followup: bool = False) -> Hemorrhage:
        """Solid and fluid blood; nothing is displaced in between."""
        draw = Draw(seed=self.seed)
        done = solid(self.lesions, space, draw, followup=followup, hematocrit=self.hematocrit)
        return fluid(self.lesions, space, draw, done, followup=followup, hematocrit=self.hematocrit)


def lesion(
    type_: str,
    site: str,
    *,
    volume_ml: float = 20.0,
    followup_ml: float | None = None,
    side: int = 1,
    age_h: float = 4.0,
    **signs: object,
) -> Lesion:
    """One lesion that does not grow unless `followup_ml` is given."""
    return Lesion(
        type=type_,
        site=site,
        side=side,
        volume_ml=volume_ml,
        followup_ml=volume_ml if followup_ml is None else followup_ml,
        age_h=age_h,
        **signs,  # type: ignore[arg-type]
    )
