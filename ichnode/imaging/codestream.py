"""How large the image in a compressed frame is by its own word. Decoders take memory by that, not by Rows and Columns.

PS3.5 8.2; ITU-T T.81 B.2 (JPEG), T.87 C.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000). Raises ValueError for what is none of
these, and for what a decoder could understand in more than one way: a CT has no need of it.
"""

from struct import error, unpack_from
from typing import Any

from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

_MOST_TILES = 1024  # a decoder keeps some KB for each, also of one pixel
_SOC_SIZ = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_SOI, _SOS, _DNL, _DHP, _EXP, _LSE = 0xD8, 0xDA, 0xDC, 0xDE, 0xDF, 0xF8
_SOF = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # less DHT, JPG and DAC
_OVERSIZE = 4  # the LSE that gives a size beside that of the frame header


def check_codestream(frame: bytes, syntax: str, *, rows: int, columns: int, pixel_bytes: int) -> None:
    """That no more is in the frame than its header tells of. Raises ValueError."""
    if syntax == RLELossless:  # which has no size: a byte of it becomes 64 at most, and no encoder needs two for one
        if len(frame) > 2 * rows * columns * pixel_bytes + 128:
            raise ValueError(f"{len(frame)} bytes of RLE for {rows} x {columns} pixels")
        return
    if syntax in JPEG2000TransferSyntaxes:
        size = _jpeg_2000_size(frame)
    elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        size = _jpeg_size(frame)
    else:
        raise ValueError("a compression that is not known here")
    if size != (rows, columns, 1):
        said = "{} x {} pixels of {} samples".format(*size)
        raise ValueError(f"{said} are compressed where {rows} x {columns} of 1 are declared")


def _jpeg_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and samples by the one frame header before the first scan; JPEG-LS too."""
    if frame[:2] != bytes((0xFF, _SOI)):
        raise ValueError("it does not begin as JPEG does")
    found, at = None, 2
    while True:
        at, marker = _marker(frame, at)
        if marker == _SOS:
            break
        (length,) = _unpack(">H", frame, at)
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or length < 2:  # without a length, so that the next is elsewhere
            raise ValueError("it has a marker where none may be")
        if marker in _SOF:
            if found:
                raise ValueError("it has two frame headers")
            rows, columns, samples = _unpack(">HHB", frame, at + 3)
            found = rows, columns, samples
        elif marker in (_DNL, _DHP, _EXP) or (marker == _LSE and _unpack(">B", frame, at + 2)[0] == _OVERSIZE):
            raise ValueError("its size is given in more than one place")
        at += length
    if found is None:
        raise ValueError("it has no frame header")
    return found


def _marker(frame: bytes, at: int) -> tuple[int, int]:
    """Behind the marker at `at`, and its code; before it there may be fill bytes."""
    if _unpack(">B", frame, at)[0] != 0xFF:
        raise ValueError("it has no marker where one must be")
    while _unpack(">B", frame, at)[0] == 0xFF:
        at += 1
    return at + 1, frame[at]


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and samples by SIZ, which comes first; also in a JP2 file, which DICOM forbids and some write."""
    at = _jp2_codestream(frame) if frame.startswith(_JP2) else 0
    if frame[at : at + 4] != _SOC_SIZ:
        raise ValueError("it does not begin as JPEG 2000 does")
    right, bottom, left, top, tile_width, tile_height, tiles_left, tiles_top = _unpack(">8I", frame, at + 8)
    samples, _, across, down = _unpack(">HBBB", frame, at + 40)
    if 0 in (tile_width, tile_height) or (across, down) != (1, 1):
        raise ValueError("its tiles or samples have no size")
    tiles = -((tiles_left - right) // tile_width) * -((tiles_top - bottom) // tile_height)
    if not 0 < tiles <= _MOST_TILES:
        raise ValueError(f"it has {tiles} tiles")
    return bottom - top, right - left, samples


def _jp2_codestream(frame: bytes) -> int:
    """Where the codestream of a JP2 file begins. Other boxes are looked at for a palette, which multiplies samples."""
    at = 0
    while True:
        length, kind = _unpack(">I4s", frame, at)
        if kind == b"jp2c":
            return at + (16 if length == 1 else 8)
        if length < 8 or b"pclr" in frame[at : at + length]:
            raise ValueError("its JP2 boxes are not those of a CT")
        at += length


def _unpack(form: str, frame: bytes, at: int) -> tuple[Any, ...]:
    try:
        return unpack_from(form, frame, at)
    except error as problem:
        raise ValueError("it ends inside its header") from problem
