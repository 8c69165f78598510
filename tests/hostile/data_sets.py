"""Data sets element by element: a small CT image that is in order, and the means to spoil it."""

import struct
import uuid
import zlib
from dataclasses import dataclass, replace
from typing import Self

from tests.hostile.pdus import CT_IMAGE

LONG_VRS = (b"OB", b"OW", b"SQ", b"UN", b"UT")
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = (struct.pack("<HH", 0xFFFE, number) for number in (0xE000, 0xE00D, 0xE0DD))

SOP_CLASS, INSTANCE, STUDY, SERIES, PIXELS = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x7FE00010

Content = tuple[bytes, bytes | int]  # VR, value; an int is a US


def new_uid() -> bytes:
    return f"2.25.{uuid.uuid4().int}".encode()


def element(
    tag: int, vr: bytes, content: bytes | int, *, length: int | None = None, explicit: bool = True, order: str = "<"
) -> bytes:
    """One element; `length` is what it claims."""
    if isinstance(content, int):
        content = struct.pack(f"{order}H", content)
    content += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(content) % 2)
    length = len(content) if length is None else length
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack(f"{order}L", length) + content
    if vr in LONG_VRS:
        return head + vr + struct.pack(f"{order}HL", 0, length) + content
    return head + vr + struct.pack(f"{order}H", length) + content


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A data set with its own SOP Instance UID in the order of its tags."""

    uid: bytes
    contents: dict[int, Content]

    def but(self, changes: dict[int, Content | None]) -> Self:
        """Other contents; None leaves an element out."""
        contents = {tag: content for tag, content in (self.contents | changes).items() if content is not None}
        return replace(self, contents=contents)

    def encoded(self, *, explicit: bool = True, order: str = "<") -> bytes:
        return b"".join(
            element(tag, vr, content, explicit=explicit, order=order)
            for tag, (vr, content) in sorted(self.contents.items())
        )

    @property
    def head(self) -> bytes:
        """Explicit, up to the pixel data: something else may follow."""
        return self.but({PIXELS: None}).encoded()


def ct_image(uid: bytes | None = None) -> Image:
    """A CT image of 16 x 16 pixels in a study of its own."""
    uid = uid or new_uid()
    return Image(
        uid=uid,
        contents={
            0x00080008: (b"CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
            SOP_CLASS: (b"UI", CT_IMAGE),
            INSTANCE: (b"UI", uid),
            0x00080020: (b"DA", b"20200101"),
            0x00080060: (b"CS", b"CT"),
            0x00100010: (b"PN", b"Hostile^Harry"),
            0x00100020: (b"LO", b"H1"),
            STUDY: (b"UI", new_uid()),
            SERIES: (b"UI", new_uid()),
            0x00200013: (b"IS", b"1"),
            0x00280002: (b"US", 1),
            0x00280004: (b"CS", b"MONOCHROME2"),
            0x00280010: (b"US", 16),
            0x00280011: (b"US", 16),
            0x00280100: (b"US", 16),
            0x00280101: (b"US", 12),
            0x00280102: (b"US", 11),
            0x00280103: (b"US", 0),
            PIXELS: (b"OW", bytes(range(256)) * 2),
        },
    )


def nested(depth: int) -> bytes:
    """Content Sequences, each in an item of the one around it, of undefined length."""
    sequence = element(0x0040A730, b"SQ", b"", length=UNDEFINED)
    open_item = ITEM + struct.pack("<L", UNDEFINED)
    return (sequence + open_item) * depth + (ITEM_END + bytes(4) + SEQUENCE_END + bytes(4)) * depth


def deflated(content: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(content) + compressor.flush()


def deflate_bomb(size_mb: int) -> bytes:
    """Zeros behind a deflated CT image's head: about a thousandth of `size_mb`."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [compressor.compress(ct_image().head + element(PIXELS, b"OW", b"", length=size_mb << 20))]
    pieces += [compressor.compress(bytes(1 << 20)) for _ in range(size_mb)]
    return b"".join(pieces) + compressor.flush()
