"""Strict scan of an encoded data set: is it whole under its transfer syntax, and the few values that routing needs.

One pass over the bytes, no recursion, nothing decoded but the keywords of `KEPT` (PS3.5 7.1, 7.5, A.4). The scan
refuses what a reader would have to guess about. It lets pass what real devices write: elements out of order, odd
lengths, trailing zeros, group lengths, private elements, sequences of defined or undefined length, and UN of undefined
length (implicit VR little endian inside, PS3.5 6.2.2).
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from mmap import mmap
from pathlib import Path
from struct import Struct
from typing import Any

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ichnode.domain.study import HeaderValue, Instance
from ichnode.errors import DatasetTooLarge, MalformedDataset

MAX_INFLATED = 512 * 1024**2  # bytes
MAX_ELEMENTS = 200_000  # sequence items and pixel data fragments count
MAX_DEPTH = 32  # sequences in sequences
MAX_TEXT = 1024  # bytes; no kept value may lawfully be longer

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_SEQUENCE_TAGS = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")

Bytes = bytes | mmap


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoding:
    """How elements are laid out; the functions are `Struct.unpack_from`."""

    explicit: bool
    order: str  # as in struct
    explicit_header: Callable[..., Any]  # group, element, VR, 16-bit length
    implicit_header: Callable[..., Any]  # group, element, 32-bit length; items and delimiters in every syntax
    long_length: Callable[..., Any]


def _encoding(*, explicit: bool, order: str) -> _Encoding:
    return _Encoding(
        explicit=explicit,
        order=order,
        explicit_header=Struct(f"{order}HH2sH").unpack_from,
        implicit_header=Struct(f"{order}HHI").unpack_from,
        long_length=Struct(f"{order}I").unpack_from,
    )


_EXPLICIT = _encoding(explicit=True, order="<")
_IMPLICIT = _encoding(explicit=False, order="<")
_BIG_ENDIAN = _encoding(explicit=True, order=">")
_NATIVE: dict[str, _Encoding] = {
    ImplicitVRLittleEndian: _IMPLICIT,
    ExplicitVRLittleEndian: _EXPLICIT,
    ExplicitVRBigEndian: _BIG_ENDIAN,
}


def scan(encoded: Bytes, transfer_syntax_uid: str, *, max_inflated: int = MAX_INFLATED) -> dict[str, HeaderValue]:
    """Check that a data set (without file meta) is whole under its syntax; return the values of `KEPT` it has.

    A syntax that is neither native nor deflated is taken as encapsulated. Values that do not decode stay text. Native
    pixel data adds PixelDataOffset (from the start of `encoded`) and PixelDataLength, in bytes.

    Raises MalformedDataset, and DatasetTooLarge beyond `max_inflated`, MAX_ELEMENTS or MAX_DEPTH.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        header = scan(inflate(encoded, max_inflated), ExplicitVRLittleEndian)
        return {keyword: value for keyword, value in header.items() if not keyword.startswith("PixelData")}
    encoding = _NATIVE.get(transfer_syntax_uid, _EXPLICIT)
    _check_label(encoded[:6], encoding)
    places = _Scan(data=encoded, encapsulated=transfer_syntax_uid not in _NATIVE).data_set(encoding)
    return _decoded(encoded, places, encoding)


def inflate(encoded: Bytes, max_inflated: int = MAX_INFLATED) -> bytes:
    """The data set inside a deflated one (PS3.5 A.5). Raises MalformedDataset and DatasetTooLarge."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(encoded, max_inflated + 1)
    except zlib.error as error:
        raise MalformedDataset(f"deflated bytes do not inflate: {error}") from error
    if len(inflated) > max_inflated:
        raise DatasetTooLarge(f"{len(encoded)} deflated bytes inflate beyond {max_inflated} bytes")
    if not inflater.eof or inflater.unused_data.strip(b"\0"):
        raise MalformedDataset("deflated bytes do not end where the deflate stream ends")
    return inflated


def instance_from_file(path: Path) -> Instance:
    """An instance from a Part 10 file, or from a bare data set, implicit or explicit little endian, without file meta.

    The header also has DataSetOffset: where the data set starts in the file. Raises MalformedDataset and OSError.
    """
    content = path.read_bytes()
    transfer_syntax_uid, start = _file_meta(content)
    header = scan(content[start:], transfer_syntax_uid)
    uids = {}
    for name in ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if name not in header:
            raise MalformedDataset(f"has no {name}")
        uids[name] = str(header[name])
    return Instance(
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=transfer_syntax_uid,
        file=str(path.absolute()),
        header=header | {"DataSetOffset": start},
    )


def _file_meta(content: bytes) -> tuple[str, int]:
    """Transfer syntax and start of the data set in a file (PS3.10 7.1); without file meta the syntax is sniffed."""
    position = 132 if content[128:132] == b"DICM" else 0
    transfer_syntax_uid = ""
    while content[position : position + 2] == b"\x02\0":
        tag, _, start, length = _element(content, position, len(content), _EXPLICIT)
        position = start + length
        if tag == 0x00020010:
            transfer_syntax_uid = _text(content[start:position])
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        return transfer_syntax_uid, position
    if not transfer_syntax_uid:
        explicit = content[position + 4 : position + 6] in _LONG_VRS | _SHORT_VRS
        transfer_syntax_uid = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    return str(transfer_syntax_uid), position


def _check_label(head: bytes, encoding: _Encoding) -> None:
    """Refuse a wrong label by the first element alone: a long object could otherwise be skipped through by luck."""
    if not encoding.explicit and head[4:6] in _LONG_VRS | _SHORT_VRS:
        raise MalformedDataset("is labelled implicit VR but starts with an explicit VR")
    if head[:2] == (b"\0\x08" if encoding.order == "<" else b"\x08\0"):
        raise MalformedDataset("is in the other byte order than its transfer syntax")


def _element(data: Bytes, position: int, end: int, encoding: _Encoding) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty where implicit), start and length of the value at `position`; the value fits before `end`."""
    start = position + 8
    if start > end:
        raise MalformedDataset(f"ends inside an element header at byte {position}")
    if encoding.explicit:
        group, number, vr, length = encoding.explicit_header(data, position)
        if vr not in _SHORT_VRS:
            if group == 0xFFFE:
                return group << 16 | number, b"", start, 0
            if vr not in _LONG_VRS:
                raise MalformedDataset(f"({group:04X},{number:04X}) at byte {position} has no known VR: {vr!r}")
            if start + 4 > end:
                raise MalformedDataset(f"ends inside an element header at byte {position}")
            (length,) = encoding.long_length(data, start)
            start += 4
    else:
        group, number, length = encoding.implicit_header(data, position)
        vr = b""
    if length > end - start and length != _UNDEFINED:
        raise MalformedDataset(
            f"({group:04X},{number:04X}) at byte {position} claims {length} bytes, {end - start} remain"
        )
    return group << 16 | number, vr, start, length


def _item_header(data: Bytes, position: int, end: int, encoding: _Encoding) -> tuple[int, bytes, int, int]:
    """`_element` for what stands between the elements of a sequence: items and delimiters, which have no VR."""
    if position + 8 > end:
        raise MalformedDataset(f"ends inside a sequence at byte {position}")
    group, number, length = encoding.implicit_header(data, position)
    if length > end - position - 8 and length != _UNDEFINED:
        raise MalformedDataset(f"has an item at byte {position} that claims {length} bytes")
    return group << 16 | number, b"", position + 8, length


def _is_sequence(tag: int, vr: bytes, length: int, encoding: _Encoding) -> bool:
    """Whether a value is a sequence; undefined length is lawful for SQ and UN only (PS3.5 7.1.2)."""
    if not encoding.explicit:
        return length == _UNDEFINED or tag in _SEQUENCE_TAGS
    if length == _UNDEFINED and vr not in (b"SQ", b"UN"):
        raise MalformedDataset(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has undefined length with VR {vr!r}")
    return vr == b"SQ" or length == _UNDEFINED


@dataclass(slots=True, kw_only=True)
class _Container:
    """A sequence, or an item of one, that the scan is inside of."""

    is_item: bool
    delimited: bool  # ends with a delimiter; otherwise at `end`
    end: int  # no element inside reaches beyond
    encoding: _Encoding


def _container(position: int, length: int, outer_end: int, encoding: _Encoding, *, is_item: bool) -> _Container:
    delimited = length == _UNDEFINED
    end = outer_end if delimited else position + length
    return _Container(is_item=is_item, delimited=delimited, end=end, encoding=encoding)


@dataclass(slots=True, kw_only=True)
class _Scan:
    """One pass over one data set. Each method returns the position after what it went over."""

    data: Bytes
    encapsulated: bool
    elements_left: int = MAX_ELEMENTS

    def count(self) -> None:
        self.elements_left -= 1
        if self.elements_left < 0:
            raise DatasetTooLarge(f"has more than {MAX_ELEMENTS} elements")

    def data_set(self, encoding: _Encoding) -> dict[int, tuple[int, int]]:
        """Start and end of the value of each top-level element that is kept, and of native pixel data."""
        data, position, end = self.data, 0, len(self.data)
        places: dict[int, tuple[int, int]] = {}
        while position < end:
            if data[position : position + 2] in (b"\0\0", b"\0") and not data[position:].strip(b"\0"):
                return places  # trailing zeros
            tag, vr, value, length = _element(data, position, end, encoding)
            if tag < 0x00040000 or tag >> 16 == 0xFFFE:
                raise MalformedDataset(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {position} is out of place")
            self.count()
            if tag == _PIXEL_DATA and self.encapsulated != (length == _UNDEFINED):
                raise MalformedDataset("has native pixel data in an encapsulated syntax, or the reverse")
            if tag == _PIXEL_DATA and self.encapsulated:
                position = self.fragments(value, end, encoding)
            elif _is_sequence(tag, vr, length, encoding):
                position = self.sequence(value, length, end, _IMPLICIT if vr == b"UN" else encoding)
            else:
                position = value + length
                if tag in _KEPT_TAGS or tag == _PIXEL_DATA:
                    places[tag] = (value, position)
        return places

    def fragments(self, position: int, end: int, encoding: _Encoding) -> int:
        """Encapsulated pixel data (PS3.5 A.4)."""
        while position + 8 <= end:
            tag, _, value, length = _item_header(self.data, position, end, encoding)
            self.count()
            if tag == _SEQUENCE_END:
                return value
            if tag != _ITEM or length == _UNDEFINED:
                raise MalformedDataset(f"has a broken pixel data fragment at byte {position}")
            position = value + length
        raise MalformedDataset("ends inside its pixel data fragments")

    def sequence(self, position: int, length: int, end: int, encoding: _Encoding) -> int:
        """A sequence whose items begin at `position`, with everything inside (PS3.5 7.5)."""
        stack = [_container(position, length, end, encoding, is_item=False)]
        while stack:
            inside = stack[-1]
            if position == inside.end and not inside.delimited:
                stack.pop()
                continue
            self.count()
            read = _element if inside.is_item else _item_header
            tag, vr, value, length = read(self.data, position, inside.end, inside.encoding)
            if inside.delimited and tag == (_ITEM_END if inside.is_item else _SEQUENCE_END):
                stack.pop()
            elif not inside.is_item:
                if tag != _ITEM:
                    raise MalformedDataset(f"has no item where a sequence needs one, at byte {position}")
                stack.append(_container(value, length, inside.end, inside.encoding, is_item=True))
            elif tag < 0x00040000 or tag >> 16 == 0xFFFE:
                raise MalformedDataset(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {position} is out of place")
            elif tag == _PIXEL_DATA and length == _UNDEFINED and self.encapsulated:
                value = self.fragments(value, inside.end, inside.encoding)
            elif _is_sequence(tag, vr, length, inside.encoding):
                if len(stack) >= 2 * MAX_DEPTH:
                    raise DatasetTooLarge(f"has sequences nested deeper than {MAX_DEPTH}")
                inner = _IMPLICIT if vr == b"UN" else inside.encoding
                stack.append(_container(value, length, inside.end, inner, is_item=False))
            else:
                value += length
            position = value
        return position


def _text(raw: bytes) -> str:
    """Without the padding; bytes as Latin-1, whatever the character set."""
    return raw[:MAX_TEXT].decode("latin-1").strip(" \0")


def _texts(raw: bytes) -> tuple[str, ...]:
    return tuple(part.strip(" \0") for part in _text(raw).split("\\"))


def _real(raw: bytes) -> str | float:
    text = _text(raw)
    try:
        value = float(text)
    except ValueError:
        return text
    return value if isfinite(value) and "_" not in text else text


def _reals(raw: bytes) -> str | tuple[float, ...]:
    text = _text(raw)
    try:
        values = tuple(map(float, text.split("\\")))
    except ValueError:
        return text
    return values if all(map(isfinite, values)) and "_" not in text else text


def _integer(raw: bytes) -> str | int:
    text = _text(raw)
    try:
        return int(text) if "_" not in text else text
    except ValueError:
        return text


_DECODERS: dict[Callable[[bytes], HeaderValue], str] = {
    _text: "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID PatientID Modality"
    " Manufacturer ManufacturerModelName PhotometricInterpretation RescaleType SyntheticData ContrastBolusAgent"
    " BodyPartExamined SeriesDescription ProtocolName StudyDescription",
    _texts: "ImageType ConvolutionKernel",
    _real: "SliceThickness SpacingBetweenSlices GantryDetectorTilt RescaleSlope RescaleIntercept",
    _reals: "ImagePositionPatient ImageOrientationPatient PixelSpacing WindowWidth WindowCenter",
    _integer: "SeriesNumber InstanceNumber AcquisitionNumber NumberOfFrames ImagesInAcquisition"
    " NumberOfSeriesRelatedInstances NumberOfStudyRelatedInstances",
}
_TEXTUAL = {keyword: decoder for decoder, keywords in _DECODERS.items() for keyword in keywords.split()}
_PADDING = frozenset({"PixelPaddingValue", "PixelPaddingRangeLimit"})
_WORDS = _PADDING | frozenset(
    ["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"]
)
KEPT = frozenset(_TEXTUAL) | _WORDS
_KEPT_TAGS: dict[int, str] = {tag_for_keyword(keyword) or 0: keyword for keyword in KEPT}


def decode_value(keyword: str, raw: bytes) -> HeaderValue | None:
    """The value of a `KEPT` keyword that is written as text; None when it is blank."""
    return _TEXTUAL.get(keyword, _text)(raw) if raw.strip(b" \0") else None


def _decoded(data: Bytes, places: dict[int, tuple[int, int]], encoding: _Encoding) -> dict[str, HeaderValue]:
    """The values at `places` by keyword; empty ones are left out."""
    header: dict[str, HeaderValue] = {}
    for tag, (begin, end) in places.items():
        if tag == _PIXEL_DATA:
            header["PixelDataOffset"], header["PixelDataLength"] = begin, end - begin
            continue
        keyword, raw = _KEPT_TAGS[tag], data[begin : min(end, begin + MAX_TEXT)]
        if keyword in _WORDS and len(raw) == 2:
            header[keyword] = int.from_bytes(raw, "little" if encoding.order == "<" else "big")
        elif (value := decode_value(keyword, raw)) is not None:
            header[keyword] = value
    return _with_signed_padding(header)


def _with_signed_padding(header: dict[str, HeaderValue]) -> dict[str, HeaderValue]:
    """Padding values read as the pixels are, whatever VR they are written with."""
    if header.get("PixelRepresentation") == 1:
        for keyword in _PADDING:
            padding = header.get(keyword)
            if isinstance(padding, int) and padding >= 0x8000:
                header[keyword] = padding - 0x10000
    return header
