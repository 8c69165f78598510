"""Space: where each voxel of one patient's head lies, and what anatomy is there, before blood is painted."""

from dataclasses import dataclass

from torch import Tensor

from ichnode.imaging.resample import CanonicalGrid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """All tensors are float32 (D, H, W) on the patient's grid: z cranial, y posterior, x left."""

    grid: CanonicalGrid
    mni_mm: Tensor  # (3, D, H, W): ICBM152 coordinates, x right, y anterior, z superior
    depth_mm: Tensor  # distance from the inner table of the skull: positive inside the cranial cavity
    grey: Tensor  # share of grey matter, 0-1
    white: Tensor  # share of white matter, 0-1
    ventricle: Tensor  # share of ventricular CSF, 0-1
    csf: Tensor  # share of CSF in sulci and cisterns, 0-1

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        z, y, x = self.grid.spacing_mm
        return z * y * x / 1000
