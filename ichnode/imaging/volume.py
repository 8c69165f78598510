"""Volume and AcquisitionGrid: HU on the slices as acquired, with the geometry that they really have.

Arrays are (slice, row, column). Slices are sorted along the slice normal (cross product of row and column
direction), so for an axial head from caudal to cranial. Positions are LPS patient coordinates in mm (PS3.3 C.7.6.2).
Neither equal spacing nor a right angle between slice offset and slice plane (gantry tilt) is assumed.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ichnode.domain.findings import Caveat

Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

_MOST_TILTED = 0.7  # cosine; what is more tilted is not axial


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AcquisitionGrid:
    """Where the voxels of a series are. Shared by its volume, its masks and its results."""

    rows: int
    columns: int
    positions_lps: NDArray[np.float64]  # (slice, 3): centre of the first pixel of each slice, mm
    row_direction_lps: NDArray[np.float64]  # (3,): unit vector along which the column index grows
    column_direction_lps: NDArray[np.float64]  # (3,): unit vector along which the row index grows
    pixel_spacing_mm: tuple[float, float]  # between rows, between columns (PixelSpacing order)
    slice_thickness_mm: NDArray[np.float64]  # (slice,): nominal, from SliceThickness
    sop_instance_uids: tuple[str, ...]  # one a slice; the same for all slices of an Enhanced CT instance
    frame_numbers: tuple[int, ...]  # one a slice, from 1; always 1 for CT Image Storage

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slice, row, column)."""
        return (len(self.sop_instance_uids), self.rows, self.columns)

    @property
    def normal_lps(self) -> NDArray[np.float64]:
        """Unit slice normal, (3,)."""
        return np.asarray(np.cross(self.row_direction_lps, self.column_direction_lps))

    def leveled(self) -> "AcquisitionGrid":
        """The same slices, all of them turned together, by the shortest way, until they lie along x and y.

        An axis-aligned grid through a few tilted slices would show strips of each.
        """
        normal = self.normal_lps
        up = np.array([0.0, 0.0, np.sign(normal[2])])
        if np.dot(normal, up) < _MOST_TILTED:
            return self
        x, y, z = np.cross(normal, up)
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        turn = np.eye(3) + cross + cross @ cross / (1 + np.dot(normal, up))  # Rodrigues
        return replace(
            self,
            positions_lps=self.positions_lps @ turn.T,
            row_direction_lps=turn @ self.row_direction_lps,
            column_direction_lps=turn @ self.column_direction_lps,
        )

    @property
    def offsets_mm(self) -> NDArray[np.float64]:
        """(slice,): distance of each slice plane along the normal, ascending."""
        return self.positions_lps @ self.normal_lps

    @property
    def slice_extents_mm(self) -> NDArray[np.float64]:
        """(slice,): how far each slice reaches along the normal: half-way to each neighbour, an end slice symmetric.

        A single slice reaches over its thickness.
        """
        if len(self.positions_lps) == 1:
            return self.slice_thickness_mm
        gaps = np.diff(self.offsets_mm)
        below = np.concatenate([gaps[:1], gaps])
        above = np.concatenate([gaps, gaps[-1:]])
        return np.asarray((below + above) / 2)

    @property
    def voxel_ml(self) -> NDArray[np.float64]:
        """(slice,): volume of one voxel of each slice in mL."""
        return self.slice_extents_mm * self.pixel_spacing_mm[0] * self.pixel_spacing_mm[1] / 1000

    def volume_ml(self, mask: Mask) -> float:
        """Volume of a (slice, row, column) mask in mL, from the real slice positions."""
        return float(mask.sum(axis=(1, 2)) @ self.voxel_ml)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """HU of one series on its acquisition grid."""

    hu: FloatArray  # (slice, row, column); padding is -1024 or less
    grid: AcquisitionGrid
    caveats: tuple[Caveat, ...] = ()  # how far the values may not be HU, and where the brain is cut off
