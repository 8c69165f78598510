"""Hematoma masks as DICOM Segmentation, BINARY, on the source grid: one object now, one for the predicted follow-up."""

from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset

from ichnode.domain.findings import ModelIdentity
from ichnode.imaging.volume import AcquisitionGrid, Mask
from ichnode.results.concepts import ALGORITHM_FAMILIES, ALTERED_STRUCTURE, BRAIN, HEMORRHAGE
from ichnode.results.key_slices import slice_areas
from ichnode.results.provenance import MANUFACTURER, SOFTWARE_VERSION, Provenance, Result, Role, finish
from ichnode.results.source_headers import enhanced_header, is_enhanced


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """One segment of a segmentation object."""

    label: str  # at most 64 characters
    mask: Mask  # (slice, row, column), not empty
    rgb: tuple[int, int, int]
    tracking_id: str
    tracking_uid: str


def compose_segmentation(
    segments: tuple[Segment, ...],
    *,
    role: Role,
    headers: tuple[Dataset, ...],
    grid: AcquisitionGrid,
    model: ModelIdentity,
    provenance: Provenance,
) -> Result:
    """The masks of `segments` bit for bit, a frame for each slice and segment that is not empty.

    `headers` are those of `slice_headers`, one a slice, with a frame of reference.
    """
    dataset = Segmentation(
        **_planes([segment.mask for segment in segments], headers, grid),
        segmentation_type="BINARY",
        segment_descriptions=[_description(i, s, model) for i, s in enumerate(segments, start=1)],
        series_instance_uid=provenance.series_uid(role),
        series_number=provenance.series_number(role),
        sop_instance_uid=provenance.instance_uid(role),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=SOFTWARE_VERSION,
        device_serial_number=provenance.profile.device_serial_number[:64],
        content_label=role.upper()[:16],
        content_description=f"{segments[0].label} - RESEARCH",
        content_creator_name="ichnode^",
    )
    _identify_segments_per_frame(dataset)
    _reference_whole_series(dataset, headers)
    _fix_dimension_uid(dataset, provenance.uid(role, "dimensions"))
    dataset.ContentQualification = "RESEARCH"
    dataset.BodyPartExamined = "HEAD"
    return finish(dataset, role, provenance)


def _planes(masks: list[Mask], headers: tuple[Dataset, ...], grid: AcquisitionGrid) -> dict[str, Any]:
    """Source images and pixel array for highdicom, whose cost grows with the number of planes that it is given."""
    if is_enhanced(headers[0]):
        in_frame_order = np.stack(masks, axis=-1)[np.argsort(grid.frame_numbers)]
        return {"source_images": [enhanced_header(headers[0], grid)], "pixel_array": in_frame_order}
    filled = np.flatnonzero(sum(slice_areas(mask) for mask in masks))
    pixels = np.stack([mask[filled] for mask in masks], axis=-1)
    return {"source_images": [headers[i] for i in filled], "pixel_array": pixels}


def _description(number: int, segment: Segment, model: ModelIdentity) -> SegmentDescription:
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:64],
        version=model.version[:64],
        family=ALGORITHM_FAMILIES[model.family],
        source=MANUFACTURER,
        parameters={"weights_sha256": model.weights_sha256, "trained_on": model.trained_on},
    )
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=ALTERED_STRUCTURE,
        segmented_property_type=HEMORRHAGE,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.tracking_id,
        anatomic_regions=[BRAIN],
        display_color=CIELabColor.from_rgb(*segment.rgb),
    )


def _identify_segments_per_frame(dataset: Dataset) -> None:
    """Move Segment Identification from the shared to every per-frame item: some viewers look only there."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        identification = Dataset()
        identification.ReferencedSegmentNumber = 1
        frame.SegmentIdentificationSequence = [identification]
    del shared.SegmentIdentificationSequence


def _reference_whole_series(dataset: Dataset, headers: tuple[Dataset, ...]) -> None:
    """Name every source instance, not only those with a segment: all were read to find it."""
    instances = {}
    for header in headers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        instances[header.SOPInstanceUID] = item
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = headers[0].SeriesInstanceUID, list(instances.values())
    dataset.ReferencedSeriesSequence = [series]


def _fix_dimension_uid(dataset: Dataset, uid: str) -> None:
    """Replace the random Dimension Organization UID."""
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
