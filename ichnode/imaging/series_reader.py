"""Instances of a series -> Volume in HU, or a refusal with its reason and the measured fact.

The gate works on header values alone, before any pixel is read: what passes is one stack of parallel slices on one
line, whole between its ends, with one rescale. A gantry tilt and a change of slice thickness on the way are lawful.
Pixels are then read once, straight into the volume (PS3.5 8.1 and A.4; PS3.3 C.7.6.3, C.7.5.1 and C.11.1).
"""

import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby, pairwise
from math import degrees
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import parse_basic_offsets
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from ichnode.domain.reasons import Reason
from ichnode.domain.sop_classes import ANALYSABLE, ENHANCED_CT_IMAGE
from ichnode.domain.study import HeaderValue, Instance, Series
from ichnode.errors import MalformedDataset, RefusedSeries
from ichnode.imaging.header import decode_value, inflate, scan
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Volume

MIN_SLICES = 8
MAX_SIDE = 4096  # pixels
MAX_TILT_DEG = 45.0  # gantries tilt by 30
MAX_COORDINATE_MM, MAX_THICKNESS_MM = 1e5, 50.0
MAX_SLOPE, MAX_INTERCEPT_HU = 1e3, 1e5
PADDING_HU = -1024.0
DUPLICATE_MM = 0.01
GAP_TOLERANCE_MM, GAP_TOLERANCE = 0.1, 0.05  # the larger of the two, among slices of one thickness
STEP_TOLERANCE = 0.1  # where the thickness changes: gap beyond the mean thickness
LINE_TOLERANCE_MM = 0.5
DIRECTION_TOLERANCE, SPACING_TOLERANCE_MM, THICKNESS_TOLERANCE_MM = 1e-3, 1e-3, 0.01

_NATIVE: dict[str, str] = {
    ImplicitVRLittleEndian: "<",
    ExplicitVRLittleEndian: "<",
    ExplicitVRBigEndian: ">",
}  # byte order
_FASTEST_DECODER: dict[str, str] = {
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
}  # for others pydicom's first is
# what pydicom and its decoders raise over content that they cannot make sense of
_PYDICOM_ERRORS = (RuntimeError, ValueError, AttributeError, LookupError, TypeError, EOFError, struct.error)
_PIXEL_DATA = 0x7FE00010
_FRAME_GROUPS = {  # functional group -> what it holds for a frame of Enhanced CT (PS3.3 A.38.1)
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "CTImageFrameTypeSequence": ("FrameType",),
}
_SAME_IN_ALL = {
    "Rows": Reason.MIXED_SIZE,
    "Columns": Reason.MIXED_SIZE,
    "ConvolutionKernel": Reason.MIXED_KERNEL,
    "FrameOfReferenceUID": Reason.MIXED_FRAME_OF_REFERENCE,
    "RescaleSlope": Reason.MIXED_RESCALE,
    "RescaleIntercept": Reason.MIXED_RESCALE,
}

Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """One frame of one instance. `header`: the instance's values, over them those of this frame alone."""

    instance: Instance
    frame_number: int  # from 1
    header: Mapping[str, HeaderValue]


def read_volume(series: Series) -> Volume:
    """HU of `series`, slices sorted along the normal; declared padding is -1024. Raises RefusedSeries and OSError."""
    slices, grid = _stack(series)
    hu = np.empty(grid.shape, np.float32)
    workers = min(os.cpu_count() or 1, len(slices)) if _is_compressed(series) else 1  # threads slow plain reading down
    bounds = [len(slices) * worker // workers for worker in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        parts = [pool.submit(_fill, hu[a:b], slices[a:b]) for a, b in pairwise(bounds)]
    for part in parts:
        part.result()
    return Volume(hu=hu, grid=grid)


def acquisition_grid(series: Series) -> AcquisitionGrid:
    """The gate alone: where the voxels of `series` are, from headers. Raises RefusedSeries."""
    return _stack(series)[1]


def tilt_deg(grid: AcquisitionGrid) -> float:
    """Angle between the slice normal and the line that the slice positions follow."""
    return _tilt_deg(grid.positions_lps, grid.normal_lps)


def _stack(series: Series) -> tuple[list[_Slice], AcquisitionGrid]:
    """The slices sorted along the normal, and their grid, if they pass the gate."""
    slices = [one for instance in series.instances for one in _slices(instance)]
    _check_kind(slices)
    if len(slices) < MIN_SLICES:
        raise RefusedSeries(Reason.TOO_FEW_SLICES, f"{len(slices)} slices, at least {MIN_SLICES} are needed")
    for one in slices:
        _check_pixel_description(one)
        _rescale(one)
    for keyword, reason in _SAME_IN_ALL.items():
        _check_same(slices, keyword, reason)
    if "FrameOfReferenceUID" not in slices[0].header:
        raise RefusedSeries(Reason.MIXED_FRAME_OF_REFERENCE, "no slice has a FrameOfReferenceUID")
    spacing, row_direction, column_direction = _pixel_spacing(slices), *_directions(slices)
    normal = np.cross(row_direction, column_direction)
    positions = np.array([_numbers(one, "ImagePositionPatient", 3) for one in slices])
    order = np.argsort(positions @ normal, kind="stable")
    slices, positions = [slices[i] for i in order], positions[order]
    thickness = _thickness(slices, positions @ normal)
    _check_positions(positions, normal)
    _check_gaps(np.diff(positions @ normal), thickness)
    return slices, AcquisitionGrid(
        rows=_whole(slices[0], "Rows"),
        columns=_whole(slices[0], "Columns"),
        positions_lps=positions,
        row_direction_lps=row_direction,
        column_direction_lps=column_direction,
        pixel_spacing_mm=spacing,
        slice_thickness_mm=thickness,
        sop_instance_uids=tuple(one.instance.sop_instance_uid for one in slices),
        frame_numbers=tuple(one.frame_number for one in slices),
    )


# Slices and their header values


def _slices(instance: Instance) -> list[_Slice]:
    """One for CT Image Storage, one a frame for Enhanced CT Image Storage."""
    if instance.sop_class_uid != ENHANCED_CT_IMAGE:
        return [_Slice(instance=instance, frame_number=1, header=instance.header)]
    try:
        shared, frames = _functional_groups(instance)
        common, values = _frame_values(shared), [_frame_values([frame]) for frame in frames]
    except _PYDICOM_ERRORS as error:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"functional groups cannot be read: {error}") from error
    declared = instance.header.get("NumberOfFrames")
    if declared != len(frames):
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"NumberOfFrames {declared!r}, functional groups for {len(frames)}")
    return [
        _Slice(instance=instance, frame_number=number, header={**instance.header, **common, **own})
        for number, own in enumerate(values, start=1)
    ]


def _functional_groups(instance: Instance) -> tuple[list[Dataset], list[Dataset]]:
    """The shared functional groups (one item), and those of each frame."""
    data_set = _read(instance, stop_at_pixels=True)
    shared = _items(data_set, "SharedFunctionalGroupsSequence")
    return shared, _items(data_set, "PerFrameFunctionalGroupsSequence")


def _read(instance: Instance, *, stop_at_pixels: bool = False) -> Dataset:
    """The data set of an instance that was scanned before, whatever file it lies in."""
    syntax = instance.transfer_syntax_uid
    with Path(instance.file).open("rb") as file:
        file.seek(_offset(instance.header, "DataSetOffset"))
        return read_dataset(
            BytesIO(inflate(file.read())) if syntax == DeflatedExplicitVRLittleEndian else file,
            is_implicit_VR=syntax == ImplicitVRLittleEndian,
            is_little_endian=syntax != ExplicitVRBigEndian,
            stop_when=(lambda tag, vr, length: tag >= _PIXEL_DATA) if stop_at_pixels else None,
        )


def _items(data_set: Dataset, keyword: str) -> list[Dataset]:
    value = data_set.get(keyword)
    return list(value) if isinstance(value, Items) else []


def _frame_values(groups: list[Dataset]) -> dict[str, HeaderValue]:
    """The values in functional groups, decoded as those of the instance are; FrameType becomes ImageType."""
    values: dict[str, HeaderValue] = {}
    for group, keywords in _FRAME_GROUPS.items():
        for item in (item for one in groups for item in _items(one, group)):
            for keyword in keywords:
                name = "ImageType" if keyword == "FrameType" else keyword
                raw = getattr(item.get_item(keyword), "value", None)
                value = decode_value(name, raw) if isinstance(raw, bytes) else None
                if value is not None:
                    values[name] = value
    return values


def _numbers(one: _Slice, keyword: str, count: int) -> tuple[float, ...]:
    value = one.header.get(keyword)
    if not isinstance(value, tuple) or len(value) != count:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"{keyword} is {value!r} in {_name(one)}")
    numbers = tuple(map(float, value))
    if max(map(abs, numbers)) > MAX_COORDINATE_MM:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"{keyword} is {value!r} in {_name(one)}")
    return numbers


def _whole(one: _Slice, keyword: str) -> int:
    value = one.header.get(keyword)
    if not isinstance(value, int):
        raise RefusedSeries(Reason.BAD_PIXELS, f"{keyword} is {value!r} in {_name(one)}")
    return value


def _offset(header: Mapping[str, HeaderValue], keyword: str) -> int:
    value = header.get(keyword)
    if not isinstance(value, int):
        raise RefusedSeries(Reason.BAD_PIXELS, f"there is no {keyword}: no pixel data")
    return value


def _name(one: _Slice) -> str:
    return f"frame {one.frame_number} of instance {one.instance.sop_instance_uid}"


# The gate


def _check_kind(slices: list[_Slice]) -> None:
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


def _check_same(slices: list[_Slice], keyword: str, reason: Reason) -> None:
    counts = Counter(one.header.get(keyword) for one in slices)
    if len(counts) > 1:
        found = ", ".join(f"{value!r} in {count}" for value, count in counts.most_common(3))
        raise RefusedSeries(reason, f"{keyword} is {found} of {len(slices)} slices")


def _check_pixel_description(one: _Slice) -> None:
    """One 16-bit gray sample a pixel, and native pixel data exactly as long as declared but for one pad byte."""
    rows, columns, stored = (_whole(one, keyword) for keyword in ("Rows", "Columns", "BitsStored"))
    frames = one.header.get("NumberOfFrames", 1)
    sound = {
        f"{rows} x {columns} pixels": 0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE,
        f"{one.header.get('SamplesPerPixel')} samples a pixel": one.header.get("SamplesPerPixel") == 1,
        str(one.header.get("PhotometricInterpretation")): one.header.get("PhotometricInterpretation")
        in ("MONOCHROME1", "MONOCHROME2"),
        f"{one.header.get('BitsAllocated')} bits allocated": one.header.get("BitsAllocated") == 16,
        f"{stored} bits stored": 1 < stored <= 16,
        f"high bit {one.header.get('HighBit')}": one.header.get("HighBit", stored - 1) == stored - 1,
        f"pixel representation {one.header.get('PixelRepresentation')}": one.header.get("PixelRepresentation")
        in (0, 1),
        f"{frames} frames": frames == 1 or one.instance.sop_class_uid == ENHANCED_CT_IMAGE,
    }
    for fact, is_sound in sound.items():
        if not is_sound:
            raise RefusedSeries(Reason.BAD_PIXELS, f"{fact} in {_name(one)}")
    if one.instance.transfer_syntax_uid in _NATIVE:
        _check_length(one, one.header)


def _check_length(one: _Slice, header: Mapping[str, HeaderValue]) -> None:
    """`header` of the data set that holds the pixels: the instance's own, or that of the inflated data set."""
    declared = _whole(one, "Rows") * _whole(one, "Columns") * 2
    if one.instance.sop_class_uid == ENHANCED_CT_IMAGE:
        declared *= _whole(one, "NumberOfFrames")
    found = _offset(header, "PixelDataLength")
    if found - declared not in (0, 1):
        detail = f"{found} bytes of pixel data where {declared} are declared in {_name(one)}"
        raise RefusedSeries(Reason.BAD_PIXELS, detail)


def _rescale(one: _Slice) -> tuple[float, float]:
    """Slope and intercept from stored values to HU."""
    slope, intercept = one.header.get("RescaleSlope"), one.header.get("RescaleIntercept")
    unit = one.header.get("RescaleType", "HU")
    if not isinstance(slope, int | float) or not isinstance(intercept, int | float):
        raise RefusedSeries(Reason.NO_RESCALE, f"slope {slope!r}, intercept {intercept!r} in {_name(one)}")
    if not 0 < slope <= MAX_SLOPE or abs(intercept) > MAX_INTERCEPT_HU:
        raise RefusedSeries(Reason.NO_RESCALE, f"slope {slope!r}, intercept {intercept!r} in {_name(one)}")
    if unit not in ("HU", "US"):  # US, unspecified, is what some CT scanners write for HU
        raise RefusedSeries(Reason.NO_RESCALE, f"RescaleType is {unit!r} in {_name(one)}")
    return slope, intercept


def _pixel_spacing(slices: list[_Slice]) -> tuple[float, float]:
    spacings = np.array([_numbers(one, "PixelSpacing", 2) for one in slices])
    if spacings.min() <= 0:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"PixelSpacing of {spacings.min()} mm")
    if np.ptp(spacings, axis=0).max() > SPACING_TOLERANCE_MM:
        detail = f"PixelSpacing from {spacings.min():.4f} to {spacings.max():.4f} mm"
        raise RefusedSeries(Reason.MIXED_PIXEL_SPACING, detail)
    return float(spacings[0, 0]), float(spacings[0, 1])


def _directions(slices: list[_Slice]) -> tuple[Vectors, Vectors]:
    """Row and column direction, unit vectors."""
    cosines = np.array([_numbers(one, "ImageOrientationPatient", 6) for one in slices]).reshape(-1, 2, 3)
    spread = float(np.ptp(cosines, axis=0).max())
    if spread > DIRECTION_TOLERANCE:
        raise RefusedSeries(Reason.MIXED_ORIENTATION, f"direction cosines differ by up to {spread:.4f}")
    row, column = cosines[0]
    lengths = np.linalg.norm(cosines[0], axis=1)
    if max(*abs(lengths - 1), abs(row @ column)) > DIRECTION_TOLERANCE:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"ImageOrientationPatient is not two unit vectors: {cosines[0]}")
    return row / lengths[0], column / lengths[1]


def _thickness(slices: list[_Slice], offsets_mm: Vectors) -> Vectors:
    """SliceThickness; where one is missing or nonsense, the median gap for all."""
    given = [one.header.get("SliceThickness") for one in slices]
    usable = [value for value in given if isinstance(value, int | float) and 0 < value <= MAX_THICKNESS_MM]
    if len(usable) == len(slices):
        return np.array(usable)
    return np.full(len(slices), np.median(np.diff(offsets_mm)))


def _check_positions(positions: Vectors, normal: Vectors) -> None:
    """No two slices in one plane, and all on one line, as a table moves. Positions are sorted along the normal."""
    along = positions - positions.mean(axis=0)
    if np.linalg.norm(np.ptp(positions, axis=0)) > DUPLICATE_MM and _tilt_deg(positions, normal) > MAX_TILT_DEG:
        detail = f"slices are stacked {_tilt_deg(positions, normal):.0f} degrees from their normal"
        raise RefusedSeries(Reason.BAD_GEOMETRY, detail)
    gaps = np.diff(positions @ normal)
    if gaps.min() <= DUPLICATE_MM:
        at = int(gaps.argmin())
        detail = f"slices {at + 1} and {at + 2} are {gaps[at]:.3f} mm apart; {len(positions)} slices"
        raise RefusedSeries(Reason.DUPLICATE_POSITION, detail)
    offsets = along @ normal
    drift = along - np.outer(offsets, offsets @ along / (offsets @ offsets))
    farthest = float(np.linalg.norm(drift, axis=1).max())
    if farthest > LINE_TOLERANCE_MM:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"slice positions are up to {farthest:.2f} mm off one line")


def _tilt_deg(positions: Vectors, normal: Vectors) -> float:
    along = positions[-1] - positions[0]
    length = float(np.linalg.norm(along))
    return degrees(np.arccos(min(1.0, abs(float(along @ normal)) / length))) if length else 0.0


def _check_gaps(gaps_mm: Vectors, thickness_mm: Vectors) -> None:
    """Even gaps among slices of one thickness; where it changes, slices that touch or overlap."""
    changes = [int(at) for at in np.flatnonzero(abs(np.diff(thickness_mm)) > THICKNESS_TOLERANCE_MM) + 1]
    touching = {at - 1 for at in changes}
    for first, last in pairwise([0, *changes, len(thickness_mm)]):
        inside = gaps_mm[first : last - 1]
        if len(inside) < 2:
            touching.update(range(first, last - 1))
            continue
        _check_even(inside, first)
    for at in touching:
        reach = thickness_mm[at : at + 2].mean()
        if gaps_mm[at] > reach * (1 + STEP_TOLERANCE):
            detail = f"gap of {gaps_mm[at]:.2f} mm after slice {at + 1}, where slices reach {reach:.2f} mm"
            raise RefusedSeries(Reason.MISSING_SLICES, detail)


def _check_even(gaps_mm: Vectors, first: int) -> None:
    """`first`: index of the slice before the first gap."""
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


# Pixels


def _is_compressed(series: Series) -> bool:
    return any(instance.transfer_syntax_uid not in _NATIVE for instance in series.instances)


def _fill(out: FloatArray, slices: list[_Slice]) -> None:
    """HU of `slices` into `out` (slice, row, column)."""
    filled = 0
    for _, frames in groupby(slices, key=lambda one: one.instance.sop_instance_uid):
        group = list(frames)
        for one, stored in zip(group, _stored_frames(group), strict=True):
            _write_hu(stored, one, out[filled])
            filled += 1


def _stored_frames(group: list[_Slice]) -> Iterator[NDArray[np.integer]]:
    """The stored values, (row, column), of some frames of one instance, in the order of `group`."""
    syntax = group[0].instance.transfer_syntax_uid
    if syntax in _NATIVE:
        return _native_frames(group)
    if syntax == DeflatedExplicitVRLittleEndian:
        return _inflated_frames(group)
    return _decompressed_frames(group)


def _native_frames(group: list[_Slice]) -> Iterator[NDArray[np.integer]]:
    instance, dtype, shape = group[0].instance, _dtype(group[0]), _shape(group[0])
    start = _offset(instance.header, "DataSetOffset") + _offset(instance.header, "PixelDataOffset")
    count = shape[0] * shape[1]
    for one in group:
        values = np.fromfile(instance.file, dtype, count, offset=start + (one.frame_number - 1) * 2 * count)
        if len(values) < count:
            raise RefusedSeries(Reason.BAD_PIXELS, f"the file ends inside {_name(one)}")
        yield values.reshape(shape)


def _inflated_frames(group: list[_Slice]) -> Iterator[NDArray[np.integer]]:
    instance, dtype, shape = group[0].instance, _dtype(group[0]), _shape(group[0])
    try:
        data_set = inflate(Path(instance.file).read_bytes()[_offset(instance.header, "DataSetOffset") :])
        header = scan(data_set, ExplicitVRLittleEndian)
    except MalformedDataset as error:
        raise RefusedSeries(Reason.BAD_PIXELS, f"{error} in {_name(group[0])}") from error
    _check_length(group[0], header)
    count = shape[0] * shape[1]
    for one in group:
        start = _offset(header, "PixelDataOffset") + (one.frame_number - 1) * 2 * count
        yield np.frombuffer(data_set, dtype, count, start).reshape(shape)


def _decompressed_frames(group: list[_Slice]) -> Iterator[NDArray[np.integer]]:
    one, syntax = group[0], group[0].instance.transfer_syntax_uid
    try:
        data_set = _read(one.instance)
        offsets, declared = parse_basic_offsets(data_set.PixelData), one.header.get("NumberOfFrames", 1)
        if len(offsets) not in (0, declared):
            raise RefusedSeries(Reason.BAD_PIXELS, f"{len(offsets)} frames where {declared} are declared")
        decoder = get_decoder(syntax)
        indices = [each.frame_number - 1 for each in group]
        plugin = _FASTEST_DECODER.get(syntax, "")
        for values, _ in decoder.iter_array(data_set, indices=indices, raw=True, decoding_plugin=plugin):
            yield values.reshape(_shape(one))
    except _PYDICOM_ERRORS as error:
        raise RefusedSeries(Reason.BAD_PIXELS, f"{error} in {_name(one)}") from error


def _shape(one: _Slice) -> tuple[int, int]:
    return _whole(one, "Rows"), _whole(one, "Columns")


def _dtype(one: _Slice) -> np.dtype[np.integer]:
    order = _NATIVE.get(one.instance.transfer_syntax_uid, "<")
    return np.dtype(f"{order}{'i' if one.header.get('PixelRepresentation') else 'u'}2")


def _write_hu(stored: NDArray[np.integer], one: _Slice, out: FloatArray) -> None:
    """Unused high bits off, sign extended; padding found among stored values, not HU (PS3.3 C.7.5.1.1.2)."""
    unused = 16 - _whole(one, "BitsStored")
    raw = stored.astype(_dtype(one).newbyteorder("="), copy=False)
    values = (raw << unused) >> unused if unused else raw
    slope, intercept = _rescale(one)
    np.multiply(values, np.float32(slope), out=out)
    out += np.float32(intercept)
    first = one.header.get("PixelPaddingValue")
    if isinstance(first, int):
        last = one.header.get("PixelPaddingRangeLimit", first)
        low, high = sorted((first, last if isinstance(last, int) else first))
        padded = (values >= low) & (values <= high) if low < high else (values == low)
        out[padded | (raw == first) if unused else padded] = PADDING_HU
