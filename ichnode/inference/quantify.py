"""From a prediction to findings: volume with its range and by type, ABC/2, diameters, side.

Measured on the slices as acquired.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, find_objects, label

from ichnode.domain.findings import Caveat, Findings, Hematoma, HematomaPart, HemorrhageType, Side
from ichnode.imaging.diameters import diameters_mm
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.volume import AcquisitionGrid, Mask, Volume
from ichnode.inference.manifest import Thresholds
from ichnode.inference.predictor import ANY_NEIGHBOUR

MIDLINE_MM = 3.0  # a centroid no further than this from the midline has no side
_HEAD_HU = -200.0  # skin and denser
_HEAD_STEP_MM = 4.0  # the head mask needs no finer pixels
_HEAD_REACH_MM = 20.0  # slices around the hematoma that fix the midline
_AXIAL = 0.7  # of the normal along the patient's axis, at least
_MAX_HEAD_TURN_DEG = 35.0  # a steeper axis is not the head's


def quantify(prediction: Prediction, volume: Volume, thresholds: Thresholds) -> Findings:
    """What the prediction says about the volume it was made from."""
    hematoma = _measured(prediction, volume, thresholds) if prediction.hematoma.any() else None
    return Findings(model=prediction.model, hematoma=hematoma, caveats=volume.caveats)


def _measured(prediction: Prediction, volume: Volume, thresholds: Thresholds) -> Hematoma:
    grid, mask, probability = volume.grid, prediction.hematoma, prediction.probability
    strict = mask & (probability >= thresholds.strict)
    lenient = mask | _around(mask, probability >= thresholds.lenient)
    labels, count = label(mask, ANY_NEIGHBOUR)
    areas_mm2 = mask.sum(axis=(1, 2)) * grid.pixel_spacing_mm[0] * grid.pixel_spacing_mm[1]
    largest = int(areas_mm2.argmax())
    main = np.bincount(labels[largest][mask[largest]]).argmax()
    long_axis_mm, short_axis_mm = diameters_mm(labels[largest] == main, grid.pixel_spacing_mm)
    return Hematoma(
        volume_ml=grid.volume_ml(mask),
        volume_low_ml=grid.volume_ml(strict),
        volume_high_ml=grid.volume_ml(lenient),
        abc2_ml=sum(_abc2_ml(labels, number, box, grid) for number, box in enumerate(find_objects(labels), start=1)),
        probability=float(probability[mask].max()),
        side=_side(volume, mask),
        component_count=count,
        largest_slice_uid=grid.sop_instance_uids[largest],
        largest_area_mm2=float(areas_mm2[largest]),
        long_axis_mm=long_axis_mm,
        short_axis_mm=short_axis_mm,
        parts=_parts(prediction, grid, strict, lenient),
    )


def _parts(prediction: Prediction, grid: AcquisitionGrid, strict: Mask, lenient: Mask) -> tuple[HematomaPart, ...]:
    """What each type contributes to the volume and to both ends of its range."""
    types, count = prediction.types, len(prediction.classes) + 1
    if types is None:
        return ()
    volumes = []
    for mask in (prediction.hematoma, strict, lenient):
        per_slice = [np.bincount(found[inside], minlength=count) for found, inside in zip(types, mask, strict=True)]
        volumes.append((grid.voxel_ml @ np.stack(per_slice))[1:].tolist())
    parts = [
        HematomaPart(type=HemorrhageType(name), volume_ml=ml, volume_low_ml=low, volume_high_ml=high)
        for name, ml, low, high in zip(prediction.classes, *volumes, strict=True)
        if ml > 0
    ]
    return tuple(sorted(parts, key=lambda part: -part.volume_ml))


def _around(found: Mask, candidates: Mask) -> Mask:
    """The components of `candidates` that touch what was found."""
    labels, _ = label(candidates, ANY_NEIGHBOUR)
    touched = np.unique(labels[found])
    return np.isin(labels, touched[touched > 0])


def _abc2_ml(labels: NDArray[np.int32], number: int, box: tuple[slice, ...], grid: AcquisitionGrid) -> float:
    """A x B x C / 2 of the component with this number, inside its box (Kothari et al., Stroke 1996).

    C is the height: a slice above 75 % of the largest area counts whole, from 25 % half, else not; by its own extent.
    """
    component = labels[box] == number
    areas = component.sum(axis=(1, 2))
    share = areas / areas.max()
    height_mm = float(np.select([share > 0.75, share >= 0.25], [1.0, 0.5], 0.0) @ grid.slice_extents_mm[box[0]])
    long_axis_mm, short_axis_mm = diameters_mm(component[int(areas.argmax())], grid.pixel_spacing_mm)
    return long_axis_mm * short_axis_mm * height_mm / 2 / 1000


def _side(volume: Volume, mask: Mask) -> Side:
    """Side of the mask's centroid, seen from the line that halves the head from front to back."""
    if Caveat.CUT_OFF_ASIDE in volume.caveats:
        return Side.UNTOLD
    grid, voxels = volume.grid, np.argwhere(mask)
    centroid_lps = np.average(_positions_lps(grid, voxels), axis=0, weights=grid.voxel_ml[voxels[:, 0]])
    point, forward = _midline(volume, centroid_lps)
    to_left = np.array([-forward[1], forward[0]])
    distance_mm = float((centroid_lps[:2] - point) @ (to_left * np.sign(to_left[0])))
    if abs(distance_mm) <= MIDLINE_MM:
        return Side.MIDLINE
    return Side.LEFT if distance_mm > 0 else Side.RIGHT


def _midline(volume: Volume, centroid_lps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A point on the midline and its direction, both (x, y) LPS mm: the long axis of the head around the hematoma.

    The head, not the image, because patients lie off centre and turned. An axis that is turned too far to be the head's
    (a round or cut-off head) gives way to the patient's y axis.
    """
    head_lps = _head_lps(volume, centroid_lps)[:, :2]
    forward = np.linalg.eigh(np.cov(head_lps.T))[1][:, -1]
    turned_deg = np.degrees(np.arccos(min(1.0, abs(float(forward[1])))))
    return head_lps.mean(axis=0), forward if turned_deg <= _MAX_HEAD_TURN_DEG else np.array([0.0, 1.0])


def _head_lps(volume: Volume, centroid_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(point, 3): the head at the height of the centroid, without the head holder and its pillow.

    That is the slices around it, and of sagittal or coronal ones a part of each.
    """
    grid = volume.grid
    is_axial = abs(grid.normal_lps[2]) >= _AXIAL
    off_mm = np.abs(grid.offsets_mm - centroid_lps @ grid.normal_lps)
    slices = np.flatnonzero(off_mm <= (_HEAD_REACH_MM if is_axial else np.inf))
    rows, columns = (
        np.arange(0, size, max(1, round(_HEAD_STEP_MM / spacing)))
        for size, spacing in zip((grid.rows, grid.columns), grid.pixel_spacing_mm, strict=True)
    )
    tissue = volume.hu[np.ix_(slices, rows, columns)] > _HEAD_HU
    labels, _ = label(binary_opening(tissue, np.ones((1, 3, 3))))
    where = np.argwhere(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    head_lps = _positions_lps(grid, np.stack([slices[where[:, 0]], rows[where[:, 1]], columns[where[:, 2]]], axis=1))
    return head_lps if is_axial else head_lps[np.abs(head_lps[:, 2] - centroid_lps[2]) <= _HEAD_REACH_MM]


def _positions_lps(grid: AcquisitionGrid, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """(point, 3) LPS mm from (point, 3) indices (slice, row, column)."""
    down = indices[:, 1:2] * grid.pixel_spacing_mm[0] * grid.column_direction_lps
    right = indices[:, 2:3] * grid.pixel_spacing_mm[1] * grid.row_direction_lps
    return np.asarray(grid.positions_lps[indices[:, 0]] + down + right)
