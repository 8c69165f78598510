"""What one mask is worth against the truth: overlap, distance, lesions found. Masks are (slice, row, column).

Overlap is weighed in mL with the real slice extents, so where slices are even, Dice is the usual one over voxels.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects, generate_binary_structure, label
from scipy.spatial import cKDTree

from ichnode.imaging.volume import AcquisitionGrid, Mask
from training.data.manifest import LABEL_VALUES, UNKNOWN

TYPE_OF_LABEL = {value: name for name, value in LABEL_VALUES.items() if 0 < value < UNKNOWN}
VOLUME_BINS_ML = ((0.3, 1.0), (1.0, 3.0), (3.0, 5.0), (5.0, 10.0), (10.0, 30.0), (30.0, inf))
SMALLEST_LESION_ML = 0.3  # sensitivity is not asked of less
FOUND_SHARE = 0.1  # of a lesion that must be marked for it to count as found (assumed)


def dice(truth_ml: float, predicted_ml: float, overlap_ml: float) -> float | None:
    """Twice the overlap over the sum; 0 where exactly one is empty, None (undefined) where both are."""
    total = truth_ml + predicted_ml
    return 2 * overlap_ml / total if total > 0 else None


def hd95_mm(truth: Mask, predicted: Mask, grid: AcquisitionGrid) -> float | None:
    """95th percentile of the surface distances, the worse of the two directions; None where a mask is empty.

    Between the centres of surface voxels at their LPS positions, so tilt and uneven slices count as they are.
    """
    if not truth.any() or not predicted.any():
        return None
    a, b = _surface_lps(truth, grid), _surface_lps(predicted, grid)
    there, back = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One connected component of one type in the truth."""

    type: str  # one of TYPES, or "any"
    truth_ml: float
    marked: float  # share of it inside the predicted mask, whatever the predicted type

    @property
    def found(self) -> bool:
        """Whether enough of it is marked."""
        return self.marked >= FOUND_SHARE


def lesions(labels: NDArray[np.uint8], predicted: Mask, grid: AcquisitionGrid) -> tuple[Lesion, ...]:
    """The lesions from SMALLEST_LESION_ML; voxels that touch by a face, an edge or a corner are one."""
    found: list[Lesion] = []
    for value, around in enumerate(find_objects(labels, max(TYPE_OF_LABEL)), start=1):
        if around is None:
            continue
        parts, _ = label(labels[around] == value, np.ones((3, 3, 3)))
        for number, box in enumerate(find_objects(parts), start=1):
            inside, voxel_ml = parts[box] == number, grid.voxel_ml[around[0]][box[0]]
            truth_ml = float(inside.sum(axis=(1, 2)) @ voxel_ml)
            marked_ml = float((inside & predicted[around][box]).sum(axis=(1, 2)) @ voxel_ml)
            if truth_ml >= SMALLEST_LESION_ML:
                found.append(Lesion(type=TYPE_OF_LABEL[value], truth_ml=truth_ml, marked=marked_ml / truth_ml))
    return tuple(found)


def lower_limit(errors: NDArray[np.float64]) -> float:
    """Lower 95 % limit of agreement (Bland and Altman, Lancet 1986): mean - 1.96 SD; NaN for fewer than two."""
    return float(errors.mean() - 1.96 * errors.std(ddof=1)) if len(errors) > 1 else float("nan")


def upper_limit(errors: NDArray[np.float64]) -> float:
    """Upper 95 % limit of agreement: mean + 1.96 SD; NaN for fewer than two."""
    return -lower_limit(-errors)


def _surface_lps(mask: Mask, grid: AcquisitionGrid) -> NDArray[np.float64]:
    """(point, 3): LPS mm of the voxels of a mask that have a face outside it."""
    box = find_objects(mask.astype(np.uint8))[0]
    inside = mask[box]
    edge = inside & ~binary_erosion(inside, generate_binary_structure(3, 1))
    k, j, i = (axis + part.start for axis, part in zip(np.nonzero(edge), box, strict=True))
    down = j[:, None] * grid.pixel_spacing_mm[0] * grid.column_direction_lps
    right = i[:, None] * grid.pixel_spacing_mm[1] * grid.row_direction_lps
    return np.asarray(grid.positions_lps[k] + down + right)
