"""The series gate: which series can become an honest volume, judged by headers alone, before any pixel is read.

What passes is one patient's CT, one gray sample of 8 or 16 bits a pixel, one size, kernel, rescale and frame of
reference for all slices, and slices that make one stack (`slice_positions`). What does not pass raises RefusedSeries
with its reason and the measured fact. Sources: PS3.3 C.7.6.2 and C.7.6.3 (planes and pixels), C.8.2.1 (CT image),
C.11.1 (rescale).
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from ichnode.domain.geometry import MIN_SLICES
from ichnode.domain.reasons import Reason
from ichnode.domain.sop_classes import ANALYSABLE, ENHANCED_CT_IMAGE
from ichnode.domain.study import HeaderValue, Instance, Series
from ichnode.errors import RefusedSeries
from ichnode.imaging.enhanced_ct import frames_of
from ichnode.imaging.slice_positions import Vectors, check_gaps, check_positions
from ichnode.imaging.slices import Slice, byte_place
from ichnode.imaging.volume import AcquisitionGrid

MAX_SIDE = 4096  # pixels
MAX_SLOPE, MAX_INTERCEPT_HU = 1e3, 1e5
MAX_THICKNESS_MM = 50.0
DIRECTION_TOLERANCE, SPACING_TOLERANCE_MM = 1e-3, 1e-3

_SAME_IN_ALL = {
    "Rows": Reason.MIXED_SIZE,
    "Columns": Reason.MIXED_SIZE,
    "ConvolutionKernel": Reason.MIXED_KERNEL,
    "FrameOfReferenceUID": Reason.MIXED_FRAME_OF_REFERENCE,
    "RescaleSlope": Reason.MIXED_RESCALE,
    "RescaleIntercept": Reason.MIXED_RESCALE,
}


def acquisition_grid(series: Series) -> AcquisitionGrid:
    """Where the voxels of `series` are. Raises RefusedSeries, and OSError for Enhanced CT."""
    return gated_slices(series)[1]


def gated_slices(series: Series) -> tuple[list[Slice], AcquisitionGrid]:
    """The slices sorted along the normal, and their grid. Raises RefusedSeries, and OSError for Enhanced CT."""
    slices = [one for instance in series.instances for one in _slices(instance)]
    _check_kind(slices)
    if len(slices) < MIN_SLICES:
        raise RefusedSeries(Reason.TOO_FEW_SLICES, f"{len(slices)} slices, at least {MIN_SLICES} are needed")
    for one in slices:
        _check_pixel_description(one)
        rescale(one)
    for keyword, reason in _SAME_IN_ALL.items():
        _check_same(slices, keyword, reason)
    if "FrameOfReferenceUID" not in slices[0].header:
        raise RefusedSeries(Reason.MIXED_FRAME_OF_REFERENCE, "no slice has a FrameOfReferenceUID")
    return _stack(slices)


def _slices(instance: Instance) -> list[Slice]:
    if instance.sop_class_uid == ENHANCED_CT_IMAGE:
        return frames_of(instance)
    return [Slice(instance=instance, frame_number=1, header=instance.header)]


# One kind


def _check_kind(slices: list[Slice]) -> None:
    """One patient, all CT, none a localizer."""
    patients = {one.header.get("PatientID") for one in slices}
    if len(patients) > 1:
        raise RefusedSeries(Reason.MIXED_PATIENTS, f"{len(patients)} different PatientIDs")
    _check_same(slices, "Modality", Reason.MIXED_MODALITY)
    for one in slices:
        if one.header.get("Modality") != "CT" or one.instance.sop_class_uid not in ANALYSABLE:
            detail = f"Modality {one.header.get('Modality')!r}, SOP class {one.instance.sop_class_uid}"
            raise RefusedSeries(Reason.NOT_CT_IMAGE, detail)
    image_types = [one.header.get("ImageType") for one in slices]
    localizers = sum(isinstance(words, tuple) and "LOCALIZER" in words for words in image_types)
    if localizers:
        raise RefusedSeries(Reason.LOCALIZER, f"ImageType says so in {localizers} of {len(slices)} slices")


def _check_same(slices: list[Slice], keyword: str, reason: Reason) -> None:
    counts = Counter(one.header.get(keyword) for one in slices)
    if len(counts) > 1:
        found = ", ".join(f"{value!r} in {count}" for value, count in counts.most_common(3))
        raise RefusedSeries(reason, f"{keyword} is {found} of {len(slices)} slices")


# Pixels that can be read as HU


def _check_pixel_description(one: Slice) -> None:
    """One gray sample of 8 or 16 bits a pixel, and native pixel data as long as declared.

    CT Image has 16 bits (PS3.3 C.8.2.1); pictures that were made CT again have 8.
    """
    (rows, columns), stored, header = one.shape, one.whole("BitsStored"), one.header
    allocated = one.whole("BitsAllocated")
    photometric, frames = header.get("PhotometricInterpretation"), header.get("NumberOfFrames", 1)
    sound = {
        f"{rows} x {columns} pixels": 0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE,
        f"{header.get('SamplesPerPixel')} samples a pixel": header.get("SamplesPerPixel") == 1,
        str(photometric): photometric in ("MONOCHROME1", "MONOCHROME2"),
        f"{allocated} bits allocated": allocated in (8, 16),
        f"{stored} bits stored": 1 < stored <= allocated,
        f"high bit {header.get('HighBit')}": header.get("HighBit", stored - 1) == stored - 1,
        f"pixel representation {header.get('PixelRepresentation')}": header.get("PixelRepresentation") in (0, 1),
        f"{frames} frames": frames == 1 or one.instance.sop_class_uid == ENHANCED_CT_IMAGE,
    }
    for fact, is_sound in sound.items():
        if not is_sound:
            raise RefusedSeries(Reason.BAD_PIXELS, f"{fact} in {one.name}")
    if one.is_native:
        check_pixel_length(one, header)


def check_pixel_length(one: Slice, header: Mapping[str, HeaderValue]) -> None:
    """Native pixel data exactly as long as declared but for one pad byte. Raises RefusedSeries.

    `header` is of the data set that holds the pixels: the instance's own, or that of the inflated data set.
    """
    rows, columns = one.shape
    declared = rows * columns * one.pixel_bytes
    if one.instance.sop_class_uid == ENHANCED_CT_IMAGE:
        declared *= one.whole("NumberOfFrames")
    found = byte_place(header, "PixelDataLength")
    if found - declared not in (0, 1):
        detail = f"{found} bytes of pixel data where {declared} are declared in {one.name}"
        raise RefusedSeries(Reason.BAD_PIXELS, detail)


def rescale(one: Slice) -> tuple[float, float]:
    """Slope and intercept from stored values to HU; 1 and 0 where the header has neither. Raises RefusedSeries."""
    slope, intercept = one.header.get("RescaleSlope"), one.header.get("RescaleIntercept")
    if slope is None and intercept is None:
        return 1, 0
    unit = one.header.get("RescaleType", "HU")
    if not isinstance(slope, int | float) or not isinstance(intercept, int | float):
        raise RefusedSeries(Reason.NO_RESCALE, f"slope {slope!r}, intercept {intercept!r} in {one.name}")
    if not 0 < slope <= MAX_SLOPE or abs(intercept) > MAX_INTERCEPT_HU:
        raise RefusedSeries(Reason.NO_RESCALE, f"slope {slope!r}, intercept {intercept!r} in {one.name}")
    if unit not in ("HU", "US"):  # US, unspecified, is what some CT scanners write for HU
        raise RefusedSeries(Reason.NO_RESCALE, f"RescaleType is {unit!r} in {one.name}")
    return slope, intercept


# One stack


def _stack(slices: list[Slice]) -> tuple[list[Slice], AcquisitionGrid]:
    """The slices sorted along the normal, and their grid."""
    spacing, (row_direction, column_direction) = _pixel_spacing(slices), _directions(slices)
    normal = np.cross(row_direction, column_direction)
    positions = np.array([one.numbers("ImagePositionPatient", 3) for one in slices])
    order = np.argsort(positions @ normal, kind="stable")
    slices, positions = [slices[i] for i in order], positions[order]
    thickness = _thickness(slices, positions @ normal)
    check_positions(positions, normal)
    check_gaps(np.diff(positions @ normal), thickness)
    rows, columns = slices[0].shape
    return slices, AcquisitionGrid(
        rows=rows,
        columns=columns,
        positions_lps=positions,
        row_direction_lps=row_direction,
        column_direction_lps=column_direction,
        pixel_spacing_mm=spacing,
        slice_thickness_mm=thickness,
        sop_instance_uids=tuple(one.instance.sop_instance_uid for one in slices),
        frame_numbers=tuple(one.frame_number for one in slices),
    )


def _pixel_spacing(slices: list[Slice]) -> tuple[float, float]:
    spacings = np.array([one.numbers("PixelSpacing", 2) for one in slices])
    if spacings.min() <= 0:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"PixelSpacing of {spacings.min()} mm")
    if np.ptp(spacings, axis=0).max() > SPACING_TOLERANCE_MM:
        detail = f"PixelSpacing from {spacings.min():.4f} to {spacings.max():.4f} mm"
        raise RefusedSeries(Reason.MIXED_PIXEL_SPACING, detail)
    return float(spacings[0, 0]), float(spacings[0, 1])


def _directions(slices: list[Slice]) -> tuple[Vectors, Vectors]:
    """Row and column direction, unit vectors."""
    cosines = np.array([one.numbers("ImageOrientationPatient", 6) for one in slices]).reshape(-1, 2, 3)
    spread = float(np.ptp(cosines, axis=0).max())
    if spread > DIRECTION_TOLERANCE:
        raise RefusedSeries(Reason.MIXED_ORIENTATION, f"direction cosines differ by up to {spread:.4f}")
    row, column = cosines[0]
    lengths = np.linalg.norm(cosines[0], axis=1)
    if max(*abs(lengths - 1), abs(row @ column)) > DIRECTION_TOLERANCE:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"ImageOrientationPatient is not two unit vectors: {cosines[0]}")
    return row / lengths[0], column / lengths[1]


def _thickness(slices: list[Slice], offsets_mm: Vectors) -> Vectors:
    """SliceThickness; where one is missing or nonsense, the median gap for all."""
    given = [one.header.get("SliceThickness") for one in slices]
    usable = [value for value in given if isinstance(value, int | float) and 0 < value <= MAX_THICKNESS_MM]
    if len(usable) == len(slices):
        return np.array(usable)
    return np.full(len(slices), np.median(np.diff(offsets_mm)))
