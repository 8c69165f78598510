"""Draw: every random choice of one patient, by name.

A choice depends on the patient's seed and its own name alone, so a new choice elsewhere changes no other one, and the
numbers come from the CPU whatever the device, so a patient is the same everywhere to within rounding.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.resample import CanonicalGrid

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The random choices of one patient."""

    seed: int
    device: str = "cpu"

    def _generator(self, name: str) -> torch.Generator:
        digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=7).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> float:
        """Evenly between `low` and `high`."""
        return low + (high - low) * float(torch.rand((), generator=self._generator(name), dtype=torch.float64))

    def log_uniform(self, name: str, low: float, high: float) -> float:
        """Evenly in the logarithm; both ends positive."""
        return math.exp(self.uniform(name, math.log(low), math.log(high)))

    def normal(self, name: str, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Normally distributed."""
        return mean + deviation * float(torch.randn((), generator=self._generator(name), dtype=torch.float64))

    def chance(self, name: str, probability: float) -> bool:
        """True with `probability`."""
        return self.uniform(name) < probability

    def choice(self, name: str, of: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of several, evenly or by weight."""
        share = torch.tensor(list(weights) if weights else [1.0] * len(of), dtype=torch.float64)
        return of[int(torch.multinomial(share, 1, generator=self._generator(name)))]

    def normals(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, float32 on the device."""
        return torch.randn(shape, generator=self._generator(name)).to(self.device)

    def field(self, name: str, grid: CanonicalGrid, scale_mm: float, channels: int = 1) -> Tensor:
        """(channels, D, H, W): smooth noise of about unit deviation whose features are about `scale_mm` apart.

        It is fixed in the patient's LPS space, so another grid over the same head sees the same field.
        """
        reach = [math.ceil(150.0 / scale_mm) + 2] * 3  # the head fits into +-150 mm
        nodes = self.normals(name, channels, *(2 * r + 1 for r in reach))
        theta = torch.zeros(3, 4)
        for row, (size, spacing, origin) in enumerate(
            zip(grid.shape[::-1], grid.spacing_mm[::-1], grid.origin_lps, strict=True)
        ):
            half = reach[row] * scale_mm
            theta[row, row] = size * spacing / 2 / half
            theta[row, 3] = (origin + (size - 1) * spacing / 2) / half
        return smooth_sample(nodes, theta.to(self.device), grid.shape)


def smooth_sample(nodes_cdhw: Tensor, theta: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Nodes at the places of an axis-aligned affine grid, by separable cubic B-splines: (c, D, H, W).

    `theta` is (3, 4) for x, y, z as in `affine_grid(align_corners=True)` over voxel edges: node index -1..1 spans all
    nodes, the output runs over voxel centres. Beyond the nodes the last values go on. Without interpolation artefacts,
    and far cheaper than `grid_sample`.
    """
    out = nodes_cdhw
    for axis, row in ((1, 2), (2, 1), (3, 0)):
        count, size = nodes_cdhw.shape[axis], shape[axis - 1]
        centres = (torch.arange(size, device=out.device) + 0.5) / size * 2 - 1
        place = ((theta[row, row] * centres + theta[row, 3] + 1) / 2 * (count - 1)).clamp(0, count - 1)
        distance = (place[:, None] - torch.arange(count, device=out.device)[None, :]).abs()
        near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clamp_min(0) ** 3 / 6
        weights = torch.where(distance < 1, near, far)
        weights = weights / weights.square().sum(1, keepdim=True).sqrt()  # keeps unit deviation
        out = functional.linear(out.movedim(axis, -1).contiguous(), weights).movedim(-1, axis)
    return out.contiguous()
