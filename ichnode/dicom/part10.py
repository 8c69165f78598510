"""DICOM files (PS3.10) around data sets that stay encoded as they were received."""

import struct

from ichnode.domain.identity import IMPLEMENTATION_CLASS_UID

_PREAMBLE = bytes(128) + b"DICM"  # always zeros: a received preamble could make the file an executable, too
_VERSION = struct.pack("<HH2sHI2s", 0x0002, 0x0001, b"OB", 0, 2, b"\x00\x01")


def part10_header(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information; the encoded data set follows."""
    elements = _VERSION + b"".join(
        _ui(element, uid)
        for element, uid in (
            (0x0002, sop_class_uid),
            (0x0003, sop_instance_uid),
            (0x0010, transfer_syntax_uid),
            (0x0012, IMPLEMENTATION_CLASS_UID),
        )
    )
    return _PREAMBLE + struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _ui(element: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, b"UI", len(value)) + value
