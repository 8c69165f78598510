"""SR-C: the outline of the hematoma on its largest slice (TID 1410), which OHIF draws with the numbers beside it.

OHIF draws a third party's contour only when its tracking identifier names the Cornerstone3D tool for it.
"""

import numpy as np
from highdicom.sr import (
    ImageRegion,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from ichnode.domain.findings import Hematoma, ModelIdentity
from ichnode.imaging.volume import AcquisitionGrid, Mask
from ichnode.results.concepts import (
    ALTERED_STRUCTURE,
    AREA,
    CEREBRAL_HEMORRHAGE,
    LONG_AXIS,
    MILLILITER,
    MILLIMETER,
    SHORT_AXIS,
    SQUARE_MILLIMETER,
    VOLUME,
)
from ichnode.results.key_slices import largest_slice_index
from ichnode.results.measurement_report import finding_sites
from ichnode.results.provenance import Provenance, Result, Role
from ichnode.results.source_headers import is_enhanced
from ichnode.results.structured_report import (
    append_model_statements,
    compose_report,
    measurement,
    research_use,
)

FREEHAND_TOOL = "Cornerstone3DTools@^0.1.0:PlanarFreehandROI"


def compose_outline_report(
    hematoma: Hematoma,
    mask: Mask,
    *,
    model: ModelIdentity,
    headers: tuple[Dataset, ...],
    grid: AcquisitionGrid,
    provenance: Provenance,
) -> Result:
    """The outline of the largest component of `mask` (slice, row, column) on its largest slice."""
    index = largest_slice_index(mask)
    header = headers[index]
    frames = [grid.frame_numbers[index]] if is_enhanced(header) else None
    region = ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=outer_contour(mask[index]),
        source_image=SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frames),
    )
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=provenance.uid("tracking", "outline"), identifier=FREEHAND_TOOL),
        referenced_region=region,
        finding_category=ALTERED_STRUCTURE,
        finding_type=CEREBRAL_HEMORRHAGE,
        finding_sites=finding_sites(hematoma.side),
        measurements=[
            measurement(VOLUME, hematoma.volume_ml, MILLILITER, model),
            measurement(AREA, hematoma.largest_area_mm2, SQUARE_MILLIMETER, model),
            measurement(LONG_AXIS, hematoma.long_axis_mm, MILLIMETER, model),
            measurement(SHORT_AXIS, hematoma.short_axis_mm, MILLIMETER, model),
        ],
        qualitative_evaluations=[research_use()],
    )
    append_model_statements(group[0], model)
    return compose_report([group], role=Role.OUTLINE_REPORT, library=[header], evidence=headers, provenance=provenance)


def outer_contour(mask: Mask) -> NDArray[np.float64]:
    """Closed outer outline of the largest 4-connected component of a (row, column) mask.

    Returns (point, 2): column, row of the pixel corners where the outline turns, the first point repeated as the last.
    0, 0 is the top left corner of the top left pixel (PS3.3 C.18.6.1.2), so the outline encloses whole pixels.
    """
    labels, count = ndimage.label(mask)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    inside = np.pad(largest, 1)
    row, column = np.argwhere(inside)[0]
    start, heading = (int(row), int(column)), (0, 1)  # along the top of the first pixel, the mask on the right hand
    corner, points = start, list[tuple[int, int]]()
    while not points or corner != start:
        corner = (corner[0] + heading[0], corner[1] + heading[1])
        turned = _turn(inside, corner, heading)
        if turned != heading:
            points.append((corner[1] - 1, corner[0] - 1))
        heading = turned
    return np.array([points[-1], *points], dtype=float)


def _turn(inside: Mask, corner: tuple[int, int], heading: tuple[int, int]) -> tuple[int, int]:
    """The next direction along the crack between mask and background, the mask on the right hand.

    Two diagonal pixels are not connected: the walk keeps to its own.
    """
    row, column = corner
    pixels = {
        (0, 1): ((row - 1, column), (row, column)),  # ahead on the left, ahead on the right
        (1, 0): ((row, column), (row, column - 1)),
        (0, -1): ((row, column - 1), (row - 1, column - 1)),
        (-1, 0): ((row - 1, column - 1), (row - 1, column)),
    }
    left, right = pixels[heading]
    if not inside[right]:
        return (heading[1], -heading[0])
    if inside[left]:
        return (-heading[1], heading[0])
    return heading
