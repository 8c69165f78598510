"""Where the slices of a series lie, from header values alone: offsets along the normal, gaps, coverage, tilt.

Plain arithmetic for decisions; the gate that refuses a series before its pixels are used is imaging.series_gate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import acos, degrees, isfinite, sqrt
from statistics import median
from typing import Any

MIN_SLICES = 8
MIN_COVERAGE_MM = 80.0
GAP_TOLERANCE = 1.1  # a gap may exceed the slice thickness by this factor before it counts as a hole


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceStack:
    """The slices of a series, sorted along their normal."""

    offsets_mm: tuple[float, ...]
    thickness_mm: tuple[float, ...]  # 0 where the header gives none
    instance_numbers: tuple[int, ...]
    tilt_deg: float  # angle between the normal and the line that the slice origins follow

    @property
    def gaps_mm(self) -> tuple[float, ...]:
        """Distances between neighbouring slice planes."""
        return tuple(b - a for a, b in pairwise(self.offsets_mm))

    @property
    def spacing_mm(self) -> float:
        """The median gap; 0 for a single slice."""
        return median(self.gaps_mm) if self.gaps_mm else 0.0

    @property
    def coverage_mm(self) -> float:
        """From the first to the last slice plane, and half a slice beyond on both sides."""
        return self.offsets_mm[-1] - self.offsets_mm[0] + self.spacing_mm


def stack_of(headers: Sequence[Mapping[str, Any]]) -> SliceStack | None:
    """The stack that these instance headers describe, or None when a position or orientation is missing."""
    orientation = _numbers(headers[0].get("ImageOrientationPatient"), 6) if headers else None
    positions = [_numbers(h.get("ImagePositionPatient"), 3) for h in headers]
    if orientation is None or any(p is None for p in positions):
        return None
    row, column = orientation[:3], orientation[3:]
    normal = _cross(row, column)
    rows = sorted(
        (
            (_dot(position, normal), position, _number(h.get("SliceThickness")), int(_number(h.get("InstanceNumber"))))
            for position, h in zip(positions, headers, strict=True)
            if position is not None
        ),
        key=lambda r: r[0],
    )
    return SliceStack(
        offsets_mm=tuple(r[0] for r in rows),
        thickness_mm=tuple(r[2] for r in rows),
        instance_numbers=tuple(r[3] for r in rows),
        tilt_deg=_angle(normal, tuple(b - a for a, b in zip(rows[0][1], rows[-1][1], strict=True))),
    )


def is_gapless(headers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these slices cover a head without a hole, and their numbers run without one from 1."""
    stack = stack_of(headers)
    if stack is None or len(stack.offsets_mm) < MIN_SLICES or stack.coverage_mm < MIN_COVERAGE_MM:
        return False
    reach = [(a + b) / 2 or stack.spacing_mm for a, b in pairwise(stack.thickness_mm)]
    no_hole = all(
        gap <= max(slab, stack.spacing_mm) * GAP_TOLERANCE for gap, slab in zip(stack.gaps_mm, reach, strict=True)
    )
    return no_hole and sorted(stack.instance_numbers) == list(range(1, len(headers) + 1))


def _numbers(value: object, count: int) -> tuple[float, ...] | None:
    if not isinstance(value, tuple) or len(value) != count or not all(isinstance(v, int | float) for v in value):
        return None
    try:
        numbers = tuple(map(float, value))
    except OverflowError:  # an integer beyond every float
        return None
    return numbers if all(map(isfinite, numbers)) else None


def _number(value: object) -> float:
    numbers = _numbers((value,), 1)
    return numbers[0] if numbers else 0.0


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _cross(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def _angle(a: Sequence[float], b: Sequence[float]) -> float:
    """Degrees between two directions, regardless of sense; 0 when one has no length."""
    lengths = sqrt(_dot(a, a) * _dot(b, b))
    return degrees(acos(min(1.0, abs(_dot(a, b)) / lengths))) if lengths else 0.0
