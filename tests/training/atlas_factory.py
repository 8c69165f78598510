"""An atlas that is built at once: ellipsoids like the phantom's head, for tests that need an atlas but no anatomy."""

import torch
from torch import Tensor

from training.simulate.atlas import BRAIN, SHELL, Atlas, Maps

_HALF_MM, _SPACING_MM = 120.0, 3.0


def ellipsoid_atlas() -> Atlas:
    """Brain with two ventricles in a skull, centred on ICBM152 0."""
    count = int(2 * _HALF_MM / _SPACING_MM) + 1
    axis = torch.linspace(-_HALF_MM, _HALF_MM, count)
    z, y, x = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    depth = _inside_mm((x, y, z), (66.0, 86.0, 72.0))
    ventricle = (_inside_mm((x.abs() - 9, y + 2, z - 12), (5.0, 26.0, 9.0)) > 0).float()
    white = (_inside_mm((x, y, z), (58.0, 78.0, 64.0)) > 0) * (1 - ventricle)
    grey = (depth > 2.5) * (1 - ventricle) * (1 - white)
    nothing = torch.zeros_like(depth)
    return Atlas(
        brain=_maps(BRAIN, grey, white, ventricle),
        shell=_maps(SHELL, depth, depth + 12, nothing, nothing, nothing, nothing),
    )


def _inside_mm(places: tuple[Tensor, Tensor, Tensor], axes: tuple[float, float, float]) -> Tensor:
    squares = [(place / axis) ** 2 for place, axis in zip(places, axes, strict=True)]
    return (1 - (squares[0] + squares[1] + squares[2]).sqrt()) * min(axes)


def _maps(names: tuple[str, ...], *values: Tensor) -> Maps:
    return Maps(names=names, values=torch.stack(values), low_mm=(-_HALF_MM,) * 3, spacing_mm=_SPACING_MM)
