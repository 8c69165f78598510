"""Mass effect: added blood pushes tissue aside; bone does not give way, CSF does.

The push is a flow out of the blood: leak p - div(k grad p) = strength x occupancy, and displacement = -k grad p, with
k = 0 in bone, so nothing crosses the inner table, and `leak` where CSF leaves: ventricles and sulci are squeezed first.
"""

import torch
from torch import Tensor

from training.simulate.region import coarsened, refined
from training.simulate.space import Space

_PITCH_MM = 5.0
_STEPS = 40
_REACH_MM = (300.0, 50.0, 16.0)  # over which tissue, sulci and ventricles give way to the volume; assumed
STEEPEST = 0.8  # mm per mm: below 1 no two places of the undisturbed head meet


def displacement(occupancy: Tensor, space: Space, strength: float) -> Tensor:
    """(3, D, H, W): mm in MNI axes (x right, y anterior, z superior) by which blood pushed what is at each voxel.

    `occupancy` (0-1) is all solid blood; `strength` (0-1) is the share of its volume that displaces, the rest having
    replaced tissue. Undisturbed anatomy is found at `space.mni_mm - displacement`.
    """
    spacing = space.grid.spacing_mm
    source, depth, csf, ventricle = (
        coarsened(v, spacing, _PITCH_MM) for v in (occupancy, space.depth_mm, space.csf, space.ventricle)
    )
    pitch = [n * d / m for n, d, m in zip(space.grid.shape, spacing, source.shape, strict=True)]
    cavity = (depth > -1).float()
    tissue, sulci, ventricles = (1 / reach**2 for reach in _REACH_MM)
    leak = cavity * (tissue + csf * sulci + ventricle * ventricles) * (1 - source)
    flow = _flow(strength * source * cavity, cavity, leak, pitch)
    flow = flow * (STEEPEST / _steepness(flow, pitch, depth).clamp_min(STEEPEST))
    z, y, x = refined(flow, space.grid.shape)
    return torch.stack((-x, -y, z))  # the grid runs to the left and backwards


def _flow(source: Tensor, cavity: Tensor, leak: Tensor, pitch: list[float]) -> Tensor:
    """(3, d, h, w): k grad p at voxel centres, by conjugate gradients on the negated, symmetric system."""
    faces = [_both(cavity, axis).float() / pitch[axis] ** 2 for axis in range(3)]

    def apply(p: Tensor) -> Tensor:
        out = (leak + (1 - cavity)) * p
        for axis, k in enumerate(faces):
            step = k * torch.diff(p, dim=axis)
            out = out + _padded(step, axis, first=True) - _padded(step, axis, first=False)
        return out

    p, residual = torch.zeros_like(source), source
    search, energy = residual, residual.square().sum()
    for _ in range(_STEPS):
        pushed = apply(search)
        rate = energy / (search * pushed).sum().clamp_min(1e-12)
        p, residual = p + rate * search, residual - rate * pushed
        energy, before = residual.square().sum(), energy
        search = residual + energy / before.clamp_min(1e-12) * search
    gradient = []
    for axis, k in enumerate(faces):
        step = -k * pitch[axis] * torch.diff(p, dim=axis)
        gradient.append((_padded(step, axis, first=True) + _padded(step, axis, first=False)) / 2)
    return torch.stack(gradient)


def _both(cavity: Tensor, axis: int) -> Tensor:
    n = cavity.shape[axis]
    return torch.minimum(cavity.narrow(axis, 0, n - 1), cavity.narrow(axis, 1, n - 1))


def _padded(values: Tensor, axis: int, *, first: bool) -> Tensor:
    """One zero more along `axis`: from faces between voxels to the voxels after (`first`) or before them."""
    zero = torch.zeros_like(values.narrow(axis, 0, 1))
    return torch.cat((zero, values) if first else (values, zero), dim=axis)


def _steepness(flow: Tensor, pitch: list[float], depth_mm: Tensor) -> Tensor:
    """The largest change of displacement per mm (Frobenius norm of its gradient) away from the bone."""
    gradients = torch.gradient(flow, spacing=pitch, dim=(1, 2, 3))
    return (torch.stack(gradients).square().sum((0, 1)) * (depth_mm > 1.5 * _PITCH_MM)).amax().sqrt()
