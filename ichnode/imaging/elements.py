"""The elements of an encoded data set, gone over once from end to end: is it whole, and where do some values lie?

Nothing is decoded, nothing recurses (PS3.5 7.1, 7.5, A.4). What a reader would have to guess about is refused. What
real devices write passes: elements out of order, odd lengths, trailing zeros, group lengths, private elements,
sequences of defined or undefined length, and UN of undefined length (implicit VR little endian inside, PS3.5 6.2.2).
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from mmap import mmap
from struct import Struct
from typing import Any

from pydicom._dicom_dict import DicomDictionary

from ichnode.errors import MalformedDataset

MAX_ELEMENTS = 200_000  # sequence items and pixel data fragments count
MAX_DEPTH = 32  # sequences in sequences
PIXEL_DATA = 0x7FE00010
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # with a 32-bit length
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

_PIECE = 64 * 1024  # bytes of padding that are compared at once
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# of SOP class, instance, patient, study and series
_ONCE = frozenset({0x00080016, 0x00080018, 0x00100020, 0x0020000D, 0x0020000E})
_SEQUENCE_TAGS = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")

Bytes = bytes | mmap
Places = dict[int, tuple[int, int]]  # tag -> start and end of its value
Element = tuple[int, bytes, int, int]  # tag, VR (empty where implicit), start and length of its value


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How elements are laid out; the functions are `Struct.unpack_from`."""

    explicit: bool
    order: str  # as in struct
    explicit_header: Callable[..., Any]  # group, element, VR, 16-bit length
    implicit_header: Callable[..., Any]  # group, element, 32-bit length; items and delimiters in every syntax
    long_length: Callable[..., Any]


def _encoding(*, explicit: bool, order: str) -> Encoding:
    return Encoding(
        explicit=explicit,
        order=order,
        explicit_header=Struct(f"{order}HH2sH").unpack_from,
        implicit_header=Struct(f"{order}HHI").unpack_from,
        long_length=Struct(f"{order}I").unpack_from,
    )


EXPLICIT = _encoding(explicit=True, order="<")
IMPLICIT = _encoding(explicit=False, order="<")
BIG_ENDIAN = _encoding(explicit=True, order=">")


def find_elements(
    encoded: Bytes, encoding: Encoding, wanted: Set[int], *, encapsulated: bool, start: int = 0
) -> Places:
    """Where the values of the top-level elements `wanted` lie, and native pixel data, in the bytes from `start` on.

    Raises MalformedDataset.
    """
    _check_label(encoded[start : start + 6], encoding)
    return _Walk(data=encoded, encapsulated=encapsulated).data_set(start, encoding, wanted)


def _check_label(head: bytes, encoding: Encoding) -> None:
    """Refuse a wrong label by the first element alone: a long object could otherwise be skipped through by luck."""
    if not encoding.explicit and head[4:6] in LONG_VRS | SHORT_VRS:
        raise MalformedDataset("is labelled implicit VR but starts with an explicit VR")
    if head[:2] == (b"\0\x08" if encoding.order == "<" else b"\x08\0"):
        raise MalformedDataset("is in the other byte order than its transfer syntax")


def element_at(data: Bytes, position: int, end: int, encoding: Encoding) -> Element:
    """The element that begins at `position`; its value ends at `end` or before, or has undefined length."""
    start = position + 8
    if start > end:
        raise MalformedDataset(f"ends inside an element header at byte {position}")
    if encoding.explicit:
        group, number, vr, length = encoding.explicit_header(data, position)
        if vr not in SHORT_VRS:
            if group == 0xFFFE:
                return group << 16 | number, b"", start, 0
            if vr not in LONG_VRS:
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


def _item_at(data: Bytes, position: int, end: int, encoding: Encoding) -> Element:
    """`element_at` for what stands between the elements of a sequence: items and delimiters, which have no VR."""
    if position + 8 > end:
        raise MalformedDataset(f"ends inside a sequence at byte {position}")
    group, number, length = encoding.implicit_header(data, position)
    if length > end - position - 8 and length != _UNDEFINED:
        raise MalformedDataset(f"has an item at byte {position} that claims {length} bytes")
    return group << 16 | number, b"", position + 8, length


def _check_place(tag: int, position: int) -> None:
    """No command or file meta elements in a data set, and no delimiter where nothing is open."""
    if tag < 0x00040000 or tag >> 16 == 0xFFFE:
        raise MalformedDataset(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {position} is out of place")


def _is_padding(data: Bytes, position: int) -> bool:
    """Whether zeros alone follow, which may be gigabytes of them."""
    return not any(data[begin : begin + _PIECE].strip(b"\0") for begin in range(position, len(data), _PIECE))


def _is_sequence(tag: int, vr: bytes, length: int, encoding: Encoding) -> bool:
    """Whether a value is a sequence; undefined length is lawful for SQ and UN only (PS3.5 7.1.2)."""
    if not encoding.explicit:
        return length == _UNDEFINED or tag in _SEQUENCE_TAGS
    if length == _UNDEFINED and vr not in (b"SQ", b"UN"):
        raise MalformedDataset(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has undefined length with VR {vr!r}")
    return vr == b"SQ" or length == _UNDEFINED


@dataclass(slots=True, kw_only=True)
class _Container:
    """A sequence, or an item of one, that the walk is inside of."""

    is_item: bool
    delimited: bool  # ends with a delimiter; otherwise at `end`
    end: int  # no element inside reaches beyond
    encoding: Encoding


def _container(position: int, length: int, outer_end: int, encoding: Encoding, *, is_item: bool) -> _Container:
    delimited = length == _UNDEFINED
    end = outer_end if delimited else position + length
    return _Container(is_item=is_item, delimited=delimited, end=end, encoding=encoding)


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One pass over one data set. `fragments` and `sequence` return the position after what they went over."""

    data: Bytes
    encapsulated: bool
    elements_left: int = MAX_ELEMENTS

    def count(self) -> None:
        self.elements_left -= 1
        if self.elements_left < 0:
            raise MalformedDataset(f"has more than {MAX_ELEMENTS} elements")

    def data_set(self, position: int, encoding: Encoding, wanted: Set[int]) -> Places:
        """The top level, from `position` on."""
        data, end = self.data, len(self.data)
        places: Places = {}
        while position < end:
            if data[position : position + 2] in (b"\0\0", b"\0") and _is_padding(data, position):
                return places
            tag, vr, value, length = element_at(data, position, end, encoding)
            _check_place(tag, position)
            self.count()
            if tag == PIXEL_DATA and self.encapsulated != (length == _UNDEFINED):
                raise MalformedDataset("has native pixel data in an encapsulated syntax, or the reverse")
            if tag == PIXEL_DATA and self.encapsulated:
                position = self.fragments(value, end, encoding)
            elif _is_sequence(tag, vr, length, encoding):
                position = self.sequence(value, length, end, IMPLICIT if vr == b"UN" else encoding)
            else:
                position = value + length
                if tag in wanted or tag == PIXEL_DATA:
                    if tag in _ONCE and tag in places:  # readers differ in which of the two they take
                        raise MalformedDataset(f"has ({tag >> 16:04X},{tag & 0xFFFF:04X}) twice")
                    places[tag] = (value, position)
        return places

    def fragments(self, position: int, end: int, encoding: Encoding) -> int:
        """Encapsulated pixel data (PS3.5 A.4)."""
        while position + 8 <= end:
            tag, _, value, length = _item_at(self.data, position, end, encoding)
            self.count()
            if tag == _SEQUENCE_END:
                return value
            if tag != _ITEM or length == _UNDEFINED:
                raise MalformedDataset(f"has a broken pixel data fragment at byte {position}")
            position = value + length
        raise MalformedDataset("ends inside its pixel data fragments")

    def sequence(self, position: int, length: int, end: int, encoding: Encoding) -> int:
        """A sequence whose items begin at `position`, with everything inside (PS3.5 7.5)."""
        stack = [_container(position, length, end, encoding, is_item=False)]
        while stack:
            inside = stack[-1]
            if position == inside.end and not inside.delimited:
                stack.pop()
                continue
            self.count()
            read = element_at if inside.is_item else _item_at
            element = tag, _, value, length = read(self.data, position, inside.end, inside.encoding)
            if inside.delimited and tag == (_ITEM_END if inside.is_item else _SEQUENCE_END):
                stack.pop()
                position = value
            elif inside.is_item:
                position = self._element_of_item(position, element, stack)
            elif tag == _ITEM:
                stack.append(_container(value, length, inside.end, inside.encoding, is_item=True))
                position = value
            else:
                raise MalformedDataset(f"has no item where a sequence needs one, at byte {position}")
        return position

    def _element_of_item(self, position: int, element: Element, stack: list[_Container]) -> int:
        """Over one element of the item on top of `stack`; or into it, if it is a sequence, which then is on top."""
        (tag, vr, value, length), inside = element, stack[-1]
        _check_place(tag, position)
        if tag == PIXEL_DATA and length == _UNDEFINED and self.encapsulated:
            return self.fragments(value, inside.end, inside.encoding)
        if not _is_sequence(tag, vr, length, inside.encoding):
            return value + length
        if len(stack) >= 2 * MAX_DEPTH:
            raise MalformedDataset(f"has sequences nested deeper than {MAX_DEPTH}")
        encoding = IMPLICIT if vr == b"UN" else inside.encoding
        stack.append(_container(value, length, inside.end, encoding, is_item=False))
        return value
