"""The few keywords that are kept of every instance, for rules, gates and geometry, and how their values are decoded.

Values are text, numbers or tuples of these. A value that does not decode stays the text it is, whatever the character
set (Latin-1 gives the bytes back); an empty one is left out.
"""

from collections.abc import Callable, Mapping
from math import isfinite

from pydicom.datadict import tag_for_keyword

from ichnode.domain.study import HeaderValue
from ichnode.imaging.elements import Bytes

MAX_TEXT = 1024  # bytes; no kept value may lawfully be longer
MAX_INTEGER = 12  # characters of an IS (PS3.5 6.2)


def _text(raw: bytes) -> str:
    """Without the padding."""
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
        return int(text) if len(text) <= MAX_INTEGER and "_" not in text else text
    except ValueError:
        return text


_DECODERS: dict[Callable[[bytes], HeaderValue], str] = {
    _text: "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID PatientID Modality"
    " Manufacturer ManufacturerModelName PhotometricInterpretation RescaleType SyntheticData ContrastBolusAgent"
    " BodyPartExamined SeriesDescription ProtocolName StudyDescription",
    _texts: "ImageType ConvolutionKernel",
    _real: "SliceThickness SpacingBetweenSlices GantryDetectorTilt RescaleSlope RescaleIntercept ContrastBolusVolume",
    _reals: "ImagePositionPatient ImageOrientationPatient PixelSpacing WindowWidth WindowCenter",
    _integer: "SeriesNumber InstanceNumber AcquisitionNumber NumberOfFrames ImagesInAcquisition"
    " NumberOfSeriesRelatedInstances NumberOfStudyRelatedInstances",
}
_TEXTUAL = {keyword: decoder for decoder, keywords in _DECODERS.items() for keyword in keywords.split()}
_PADDING = frozenset({"PixelPaddingValue", "PixelPaddingRangeLimit"})
_WORDS = _PADDING | frozenset(
    ["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"]
)  # 16 bits
KEPT = frozenset(_TEXTUAL) | _WORDS
KEPT_TAGS: Mapping[int, str] = {tag_for_keyword(keyword) or 0: keyword for keyword in KEPT}


def decode_value(keyword: str, raw: bytes) -> HeaderValue | None:
    """The value of a `KEPT` keyword that is written as text; None when it is blank."""
    return _TEXTUAL.get(keyword, _text)(raw) if raw.strip(b" \0") else None


def decode_values(data: Bytes, places: Mapping[int, tuple[int, int]], order: str) -> dict[str, HeaderValue]:
    """The values that `data` holds at `places`, by keyword. `order` is the byte order, as in struct."""
    header: dict[str, HeaderValue] = {}
    for tag, (begin, end) in places.items():
        keyword, raw = KEPT_TAGS[tag], data[begin : min(end, begin + MAX_TEXT)]
        if keyword in _WORDS and len(raw) == 2:
            header[keyword] = int.from_bytes(raw, "little" if order == "<" else "big")
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
