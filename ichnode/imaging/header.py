"""Encoded bytes or a file -> the few header values that routing needs, or MalformedDataset.

Whether the data set is whole under its transfer syntax is for `elements` to say, what is kept of it for `keywords`.
Nothing else is decoded, so that an instance can be judged while its sender waits.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ichnode.domain.study import HeaderValue, Instance
from ichnode.errors import DatasetTooLarge, MalformedDataset
from ichnode.imaging.elements import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    LONG_VRS,
    PIXEL_DATA,
    SHORT_VRS,
    Bytes,
    Encoding,
    element_at,
    find_elements,
)
from ichnode.imaging.keywords import KEPT_TAGS, decode_values

MARK = b"DICM"  # in a Part 10 file, behind 128 bytes
FIRST_GROUP = 0x0008  # of what a data set of an instance begins with, unless with file meta
MAX_INFLATED = 512 * 1024**2  # bytes
_PIECE = 256 * 1024  # bytes of a deflated data set, in and out

NATIVE: dict[str, Encoding] = {
    ImplicitVRLittleEndian: IMPLICIT,
    ExplicitVRLittleEndian: EXPLICIT,
    ExplicitVRBigEndian: BIG_ENDIAN,
}


def scan(
    encoded: Bytes, transfer_syntax_uid: str, *, start: int = 0, max_inflated: int = MAX_INFLATED
) -> dict[str, HeaderValue]:
    """Check that the data set from `start` on is whole under its syntax; return the values of `KEPT` it has.

    A syntax that is neither native nor deflated is taken as encapsulated. Native pixel data adds PixelDataOffset (from
    `start`) and PixelDataLength, in bytes. Raises MalformedDataset, and of a deflated data set that exceeds
    `max_inflated` DatasetTooLarge.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        return without_places(scan(inflate(encoded[start:], max_inflated), ExplicitVRLittleEndian))
    encoding = NATIVE.get(transfer_syntax_uid, EXPLICIT)
    encapsulated = transfer_syntax_uid not in NATIVE
    places = find_elements(encoded, encoding, KEPT_TAGS.keys(), encapsulated=encapsulated, start=start)
    pixels = places.pop(PIXEL_DATA, None)
    header = decode_values(encoded, places, encoding.order)
    if pixels:
        header["PixelDataOffset"], header["PixelDataLength"] = pixels[0] - start, pixels[1] - pixels[0]
    return header


def without_places(header: dict[str, HeaderValue]) -> dict[str, HeaderValue]:
    """Of an inflated data set: where its pixels lie does not say where they lie in the file."""
    return {keyword: value for keyword, value in header.items() if not keyword.startswith("PixelData")}


def inflate(encoded: Bytes, max_inflated: int = MAX_INFLATED) -> bytes:
    """The data set inside a deflated one (PS3.5 A.5). Raises MalformedDataset and DatasetTooLarge."""
    return b"".join(inflated(encoded, max_inflated=max_inflated))


def inflated(encoded: Bytes, *, start: int = 0, max_inflated: int = MAX_INFLATED) -> Iterator[bytes]:
    """The same piece by piece, of the bytes from `start` on."""
    inflater, room = zlib.decompressobj(-zlib.MAX_WBITS), max_inflated
    for begin in range(start, len(encoded), _PIECE):
        rest = encoded[begin : begin + _PIECE]
        if inflater.eof and rest.strip(b"\0"):
            raise MalformedDataset("deflated bytes do not end where the deflate stream ends")
        is_full = True
        while not inflater.eof and (rest or is_full):
            try:
                piece = inflater.decompress(rest, _PIECE)
            except zlib.error as error:
                raise MalformedDataset(f"deflated bytes do not inflate: {error}") from error
            room -= len(piece)
            if room < 0:
                raise DatasetTooLarge(f"{len(encoded) - start} deflated bytes inflate beyond {max_inflated} bytes")
            yield piece
            rest, is_full = inflater.unconsumed_tail, len(piece) == _PIECE
    if room == max_inflated:
        raise MalformedDataset("deflated bytes inflate to nothing")
    if not inflater.eof or inflater.unused_data.strip(b"\0"):
        raise MalformedDataset("deflated bytes do not end where the deflate stream ends")


def instance_from_file(path: Path) -> Instance:
    """An instance from a Part 10 file, or from a bare data set, implicit or explicit little endian, without file meta.

    The header also has DataSetOffset: where the data set starts in the file. Raises MalformedDataset and OSError.
    """
    content = path.read_bytes()
    if content[128:132] != MARK and not 0 < int.from_bytes(content[:2], "little") <= FIRST_GROUP:
        raise MalformedDataset("is no DICOM file: it has no file meta and does not begin like a data set")
    transfer_syntax_uid, start = _file_meta(content)
    header = scan(content, transfer_syntax_uid, start=start)
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
    position = 132 if content[128:132] == MARK else 0
    transfer_syntax_uid = ""
    while content[position : position + 2] == b"\x02\0":
        tag, _, start, length = element_at(content, position, len(content), EXPLICIT)
        position = start + length
        if tag == 0x00020010:
            transfer_syntax_uid = content[start:position].decode("latin-1").strip(" \0")
    if not transfer_syntax_uid:
        explicit = content[position + 4 : position + 6] in LONG_VRS | SHORT_VRS
        transfer_syntax_uid = str(ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian)
    return transfer_syntax_uid, position
