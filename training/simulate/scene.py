"""Scene: what findings that are no hemorrhage are painted into, and where a place lies by a line through it."""

from dataclasses import dataclass

from torch import Tensor

from training.simulate.draw import Draw
from training.simulate.space import Space

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One head with its hemorrhage known but not painted yet."""

    space: Space
    draw: Draw
    hu: Tensor
    covered: Tensor  # share of hemorrhage in each voxel: soft findings do not show through it


def along(places: Tensor, start: Point, end: Point) -> Tensor:
    """How far along a line each of `places` (3, D, H, W) lies: 0 at its start, 1 at its end, and beyond."""
    line = [e - s for s, e in zip(start, end, strict=True)]
    return _sum([(c - s) * a for c, s, a in zip(places, start, line, strict=True)]) / sum(a * a for a in line)


def beside(places: Tensor, start: Point, end: Point, t: Tensor, bend_mm: Tensor | float = 0.0) -> Tensor:
    """mm from each place to the point `t` of the line, which `bend_mm` moves along all three axes."""
    line = [e - s for s, e in zip(start, end, strict=True)]
    return _sum([(c - s - a * t - bend_mm) ** 2 for c, s, a in zip(places, start, line, strict=True)]).sqrt()


def _sum(terms: list[Tensor]) -> Tensor:
    return terms[0] + terms[1] + terms[2]
