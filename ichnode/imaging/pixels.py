"""The stored pixels of slices -> HU.

Native pixels come straight from their place in the file, deflated ones from the inflated data set, all others through
pydicom's decoders (PS3.5 8.1 and A.4), every frame of an instance in one go, once its codestream has said the size that
the header says: a decoder believes the codestream, and 2 KB can ask it for GB. Declared padding becomes -1024 HU: it is
found among stored values, not among HU (PS3.3 C.7.5.1.1.2). What the bytes do not honestly hold raises RefusedSeries.
"""

import errno
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame, parse_basic_offsets
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from ichnode.domain.reasons import Reason
from ichnode.errors import MalformedDataset, RefusedSeries
from ichnode.imaging.codestream import check_codestream
from ichnode.imaging.data_set import PYDICOM_ERRORS, read_data_set
from ichnode.imaging.header import inflate, scan
from ichnode.imaging.series_gate import check_pixel_length, rescale
from ichnode.imaging.slices import Slice, byte_place
from ichnode.imaging.volume import FloatArray

PADDING_HU = -1024.0

_FASTEST_DECODER: dict[str, str] = {
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
}  # for others pydicom's first is

Stored = NDArray[np.integer]  # (row, column), in the byte order of the file


def read_hu(slices: list[Slice], out: FloatArray) -> None:
    """Fill `out`, (slice, row, column), with the HU of `slices`. Raises RefusedSeries and OSError."""
    filled = 0
    for _, frames in groupby(slices, key=lambda one: one.instance.sop_instance_uid):
        group = list(frames)
        for one, stored in zip(group, _stored_frames(group), strict=True):
            _write_hu(stored, one, out[filled])
            filled += 1


def _stored_frames(group: list[Slice]) -> Iterator[Stored]:
    """The stored values of some frames of one instance, in the order of `group`."""
    if group[0].is_native:
        return _native_frames(group)
    if group[0].instance.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        return _inflated_frames(group)
    return _decompressed_frames(group)


def _native_frames(group: list[Slice]) -> Iterator[Stored]:
    instance, dtype, (rows, columns) = group[0].instance, _dtype(group[0]), group[0].shape
    start = byte_place(instance.header, "DataSetOffset") + byte_place(instance.header, "PixelDataOffset")
    for one in group:
        offset = start + (one.frame_number - 1) * rows * columns * dtype.itemsize
        values = np.fromfile(instance.file, dtype, rows * columns, offset=offset)
        if len(values) < rows * columns:
            if Path(instance.file).stat().st_size >= offset + rows * columns * dtype.itemsize:
                raise OSError(errno.EIO, os.strerror(errno.EIO), instance.file)  # of which NumPy says nothing
            raise RefusedSeries(Reason.BAD_PIXELS, f"the file ends inside {one.name}")
        yield values.reshape(rows, columns)


def _inflated_frames(group: list[Slice]) -> Iterator[Stored]:
    instance, dtype, (rows, columns) = group[0].instance, _dtype(group[0]), group[0].shape
    try:
        data_set = inflate(Path(instance.file).read_bytes()[byte_place(instance.header, "DataSetOffset") :])
        header = scan(data_set, ExplicitVRLittleEndian)
    except MalformedDataset as error:
        raise RefusedSeries(Reason.BAD_PIXELS, f"{error} in {group[0].name}") from error
    check_pixel_length(group[0], header)
    for one in group:
        offset = byte_place(header, "PixelDataOffset") + (one.frame_number - 1) * rows * columns * dtype.itemsize
        yield np.frombuffer(data_set, dtype, rows * columns, offset).reshape(rows, columns)


def _decompressed_frames(group: list[Slice]) -> Iterator[Stored]:
    one, syntax = group[0], group[0].instance.transfer_syntax_uid
    try:
        data_set = read_data_set(one.instance)
        offsets, declared = parse_basic_offsets(data_set.PixelData), one.header.get("NumberOfFrames", 1)
        if len(offsets) not in (0, declared):
            raise RefusedSeries(Reason.BAD_PIXELS, f"{len(offsets)} frames where {declared} are declared")
        indices, plugin = [each.frame_number - 1 for each in group], _FASTEST_DECODER.get(syntax, "")
        _check_codestreams(data_set, one, indices)
        for values, _ in get_decoder(syntax).iter_array(data_set, indices=indices, raw=True, decoding_plugin=plugin):
            yield values.reshape(one.shape)
    except PYDICOM_ERRORS as error:
        raise RefusedSeries(Reason.BAD_PIXELS, f"{error} in {one.name}") from error


def _check_codestreams(data_set: Dataset, one: Slice, indices: list[int]) -> None:
    """Of the frames as the decoder will cut them out. Raises ValueError, or what pydicom raises."""
    rows, columns = one.shape
    table, lengths = data_set.get("ExtendedOffsetTable"), data_set.get("ExtendedOffsetTableLengths")
    offsets = (table, lengths) if table and lengths and len(table) == len(lengths) else None
    for index in indices:
        frame = get_frame(
            data_set.PixelData,
            index,
            number_of_frames=int(data_set.get("NumberOfFrames") or 1),
            extended_offsets=offsets,
        )
        syntax = one.instance.transfer_syntax_uid
        check_codestream(frame, syntax, rows=rows, columns=columns, pixel_bytes=one.pixel_bytes)


def _dtype(one: Slice) -> np.dtype[np.integer]:
    order = ">" if one.instance.transfer_syntax_uid == ExplicitVRBigEndian else "<"
    return np.dtype(f"{order}{'i' if one.header.get('PixelRepresentation') else 'u'}{one.pixel_bytes}")


def _write_hu(stored: Stored, one: Slice, out: FloatArray) -> None:
    """Unused high bits off, sign extended, then the rescale; padding last."""
    unused = one.whole("BitsAllocated") - one.whole("BitsStored")
    raw = stored.astype(_dtype(one).newbyteorder("="), copy=False)
    values = (raw << unused) >> unused if unused else raw
    slope, intercept = rescale(one)
    np.multiply(values, np.float32(slope), out=out)
    out += np.float32(intercept)
    first = one.header.get("PixelPaddingValue")
    if isinstance(first, int):
        last = one.header.get("PixelPaddingRangeLimit", first)
        low, high = sorted((first, last if isinstance(last, int) else first))
        padded = (values >= low) & (values <= high) if low < high else (values == low)
        out[padded | (raw == first) if unused else padded] = PADDING_HU
