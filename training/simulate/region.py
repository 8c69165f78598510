"""Region: a part of a Space, or a coarser look at it; both see the same head and the same noise fields."""

from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from training.simulate.space import Space

Window = tuple[slice, slice, slice]


def part(space: Space, window: Window) -> Space:
    """The voxels of `window` (z, y, x), whose slices have a start, and a step where voxels are skipped."""
    grid = space.grid
    starts = [w.start or 0 for w in window]
    steps = [w.step or 1 for w in window]
    tensors = {f.name: getattr(space, f.name)[(..., *window)] for f in fields(space) if f.name != "grid"}
    z, y, x = tensors["depth_mm"].shape
    origin = [o + s * d for o, s, d in zip(grid.origin_lps, starts[::-1], grid.spacing_mm[::-1], strict=True)]
    pitch = [d * step for d, step in zip(grid.spacing_mm, steps, strict=True)]
    smaller = replace(
        grid,
        shape=(z, y, x),
        origin_lps=(origin[0], origin[1], origin[2]),
        spacing_mm=(pitch[0], pitch[1], pitch[2]),
    )
    return replace(space, grid=smaller, **tensors)


def stride(space: Space, pitch_mm: float) -> Window:
    """The window that looks at one voxel in about `pitch_mm`."""
    z, y, x = (slice(0, None, max(1, round(pitch_mm / d))) for d in space.grid.spacing_mm)
    return z, y, x


def bounds(wanted: Tensor, coarse: Window, shape: tuple[int, int, int]) -> Window | None:
    """The window of full resolution around what is `wanted` on the grid that `coarse` looks at, one step wider."""
    windows = []
    for axis, size in enumerate(shape):
        others = [a for a in range(3) if a != axis]
        hits = wanted.any(dim=others[1]).any(dim=others[0]).nonzero()
        if not len(hits):
            return None
        step = coarse[axis].step
        windows.append(slice(max(0, (int(hits[0]) - 1) * step), min(size, (int(hits[-1]) + 1) * step + 1)))
    return windows[0], windows[1], windows[2]


def coarsened(values_dhw: Tensor, spacing_mm: tuple[float, float, float], pitch_mm: float) -> Tensor:
    """(d, h, w): means over blocks of about `pitch_mm`, two along an axis at least."""
    size = [max(2, round(n * d / pitch_mm)) for n, d in zip(values_dhw.shape, spacing_mm, strict=True)]
    return functional.interpolate(values_dhw[None, None], size=size, mode="area")[0, 0]


def refined(blocks_cdhw: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Blocks back on a fine grid over the same box, linear: (c, *shape). Several times faster than `interpolate`."""
    out = blocks_cdhw
    for axis, size in enumerate(shape, start=1):
        count = out.shape[axis]
        place = ((torch.arange(size, device=out.device) + 0.5) * (count / size) - 0.5).clamp(0, count - 1)
        weights = (1 - (place[:, None] - torch.arange(count, device=out.device)).abs()).clamp_min(0)
        out = functional.linear(out.movedim(axis, -1), weights).movedim(-1, axis)
    return out


def smoothed(values_dhw: Tensor, width_mm: float, spacing_mm: tuple[float, float, float]) -> Tensor:
    """The same shape, averaged over about `width_mm`."""
    shape = (values_dhw.shape[0], values_dhw.shape[1], values_dhw.shape[2])
    return refined(coarsened(values_dhw, spacing_mm, 0.7 * width_mm)[None], shape)[0]


def length_mm(vectors: Tensor) -> Tensor:
    """Of vectors along the first axis (x, y, z); faster than `norm`."""
    x, y, z = vectors.unbind()
    return (x * x + y * y + z * z).sqrt()


def nearest(space: Space, score: Tensor) -> tuple[float, float, float]:
    """ICBM152 coordinates of the voxel with the highest `score`."""
    x, y, z = space.mni_mm.reshape(3, -1)[:, score.reshape(-1).argmax()].tolist()
    return x, y, z
