"""Do these slices make one stack? Parallel planes on one line, whole between the ends, no plane twice.

A gantry tilt and a change of slice thickness on the way are lawful. Arrays are (slice, ...), sorted along the normal;
positions are LPS, mm (PS3.3 C.7.6.2.1.1). Every check raises RefusedSeries with the measured fact.
"""

from itertools import pairwise
from math import degrees

import numpy as np
from numpy.typing import NDArray

from ichnode.domain.reasons import Reason
from ichnode.errors import RefusedSeries

MAX_TILT_DEG = 45.0  # gantries tilt by 30
DUPLICATE_MM = 0.01
LINE_TOLERANCE_MM = 0.5
THICKNESS_TOLERANCE_MM = 0.01
GAP_TOLERANCE_MM, GAP_TOLERANCE = 0.1, 0.05  # the larger of the two, among slices of one thickness
STEP_TOLERANCE = 0.1  # where the thickness changes: gap beyond the mean thickness

Vectors = NDArray[np.float64]


def tilt_deg(positions: Vectors, normal: Vectors) -> float:
    """Angle between the slice normal and the line that the positions (slice, 3) follow."""
    along = positions[-1] - positions[0]
    length = float(np.linalg.norm(along))
    return degrees(np.arccos(min(1.0, abs(float(along @ normal)) / length))) if length else 0.0


def check_positions(positions: Vectors, normal: Vectors) -> None:
    """No two slices in one plane, and all on one line, as a table moves."""
    _check_tilt(positions, normal)
    gaps = np.diff(positions @ normal)
    if gaps.min() <= DUPLICATE_MM:
        at = int(gaps.argmin())
        detail = f"slices {at + 1} and {at + 2} are {gaps[at]:.3f} mm apart; {len(positions)} slices"
        raise RefusedSeries(Reason.DUPLICATE_POSITION, detail)
    along = positions - positions.mean(axis=0)
    offsets = along @ normal
    drift = along - np.outer(offsets, offsets @ along / (offsets @ offsets))
    farthest = float(np.linalg.norm(drift, axis=1).max())
    if farthest > LINE_TOLERANCE_MM:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"slice positions are up to {farthest:.2f} mm off one line")


def _check_tilt(positions: Vectors, normal: Vectors) -> None:
    tilt, reach = tilt_deg(positions, normal), np.linalg.norm(np.ptp(positions, axis=0))
    if reach > DUPLICATE_MM and tilt > MAX_TILT_DEG:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"slices are stacked {tilt:.0f} degrees from their normal")


def check_gaps(gaps_mm: Vectors, thickness_mm: Vectors) -> None:
    """Even gaps among slices of one thickness; where it changes, slices that touch or overlap."""
    changes = [int(at) for at in np.flatnonzero(abs(np.diff(thickness_mm)) > THICKNESS_TOLERANCE_MM) + 1]
    touching = {at - 1 for at in changes}
    for first, last in pairwise([0, *changes, len(thickness_mm)]):
        inside = gaps_mm[first : last - 1]
        if len(inside) < 2:
            touching.update(range(first, last - 1))
        else:
            _check_even(inside, first)
    for at in touching:
        reach = thickness_mm[at : at + 2].mean()
        if gaps_mm[at] > reach * (1 + STEP_TOLERANCE):
            detail = f"gap of {gaps_mm[at]:.2f} mm after slice {at + 1}, where slices reach {reach:.2f} mm"
            raise RefusedSeries(Reason.MISSING_SLICES, detail)


def _check_even(gaps_mm: Vectors, first: int) -> None:
    """`first`: index of the slice before the first gap. A gap of a whole multiple is a hole, any other uneven."""
    usual = float(np.median(gaps_mm))
    off = abs(gaps_mm - usual)
    at = int(off.argmax())
    if off[at] <= max(GAP_TOLERANCE_MM, GAP_TOLERANCE * usual):
        return
    times = gaps_mm / usual
    holes = np.flatnonzero((times > 1.5) & (abs(times - times.round()) < GAP_TOLERANCE * times.round()))
    at = int(holes[0]) if len(holes) else at
    detail = f"gap of {gaps_mm[at]:.2f} mm after slice {first + at + 1}, {usual:.2f} mm elsewhere"
    raise RefusedSeries(Reason.MISSING_SLICES if len(holes) else Reason.UNEVEN_SPACING, detail)
