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
from ichnode.imaging.diameters import diameters_mm
from ichnode.imaging.volume import AcquisitionGrid, Mask
from ichnode.results.concepts import (
    ALTERED_STRUCTURE,
    AREA,
    LONG_AXIS,
    MILLILITER,
    MILLIMETER,
    SHORT_AXIS,
    SQUARE_MILLIMETER,
    VOLUME,
)
from ichnode.results.key_slices import largest_slice_index
from ichnode.results.measurement_report import finding_sites, finding_type
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
    """The outline of the largest component of `mask` (slice, row, column) on its largest slice.

    Area and axes are those of what is outlined; the volume is that of the whole hematoma.
    """
    index = largest_slice_index(mask)
    outlined = outlined_region(mask[index])
    area_mm2 = float(np.count_nonzero(outlined) * grid.pixel_spacing_mm[0] * grid.pixel_spacing_mm[1])
    long_axis_mm, short_axis_mm = diameters_mm(outlined, grid.pixel_spacing_mm)
    header = headers[index]
    frames = [grid.frame_numbers[index]] if is_enhanced(header) else None
    region = ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=outer_contour(outlined),
        source_image=SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frames),
    )
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=provenance.uid("tracking", "outline"), identifier=FREEHAND_TOOL),
        referenced_region=region,
        finding_category=ALTERED_STRUCTURE,
        finding_type=finding_type(hematoma),
        finding_sites=finding_sites(hematoma.side),
        measurements=[
            measurement(VOLUME, hematoma.volume_ml, MILLILITER, model),
            measurement(AREA, area_mm2, SQUARE_MILLIMETER, model),
            measurement(LONG_AXIS, long_axis_mm, MILLIMETER, model),
            measurement(SHORT_AXIS, short_axis_mm, MILLIMETER, model),
        ],
        qualitative_evaluations=[research_use()],
    )
    append_model_statements(group[0], model)
    return compose_report([group], role=Role.OUTLINE_REPORT, library=[header], evidence=headers, provenance=provenance)


def outlined_region(mask: Mask) -> Mask:
    """The largest 4-connected component of a (row, column) mask that is not empty, and its holes."""
    labels, _ = ndimage.label(mask)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(largest, structure=np.ones((3, 3))), dtype=np.bool_)


def outer_contour(region: Mask) -> NDArray[np.float64]:
    """Closed outline of a 4-connected (row, column) region without holes.

    Returns (point, 2): column, row of the pixel corners where the outline turns, the first point repeated as the last.
    0, 0 is the top left corner of the top left pixel (PS3.3 C.18.6.1.2), so the outline encloses whole pixels.
    """
    inside = np.pad(region, 1)
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
