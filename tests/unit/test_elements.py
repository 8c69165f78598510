"""Which bytes count as a whole data set."""

import struct
import tracemalloc
from contextlib import nullcontext, suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ichnode.errors import DatasetTooLarge, MalformedDataset
from ichnode.imaging.elements import MAX_DEPTH
from ichnode.imaging.header import scan
from ichnode.imaging.keywords import KEPT
from tests.series_factory import altered, encoded, part10, phantom_datasets

SLICE = phantom_datasets()[0]
WHOLE = encoded(SLICE)
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)
UNDEFINED = b"\xff" * 4
NAME = b"\x08\x00\x70\x00LO\x04\x00GE  "  # Manufacturer, a whole element


def sequence(items: bytes, *, length: bytes | None = None, vr: bytes = b"SQ") -> bytes:
    """ReferencedImageSequence, or a private element for another VR, explicit little endian."""
    tag = b"\x08\x00\x40\x11" if vr == b"SQ" else b"\x09\x00\x10\x10"
    return tag + vr + b"\0\0" + (length or struct.pack("<I", len(items))) + items


def item(content: bytes, *, length: bytes | None = None) -> bytes:
    return ITEM + (length or struct.pack("<I", len(content))) + content


def nested(depth: int) -> bytes:
    content = NAME
    for _ in range(depth):
        content = sequence(item(content))
    return content


# sloppy, but whole


SLOPPY = {
    "a trailing zero byte": WHOLE + bytes(1),
    "trailing zeros": WHOLE + bytes(10),
    "DataSetTrailingPadding": WHOLE + b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<I", 6) + bytes(6),
    "elements out of order": WHOLE + NAME,
    "an odd length": b"\x08\x00\x70\x00LO\x03\x00GEM" + WHOLE,
    "a group length": b"\x08\x00\x00\x00UL\x04\x00" + bytes(4) + WHOLE,
    "a private element": WHOLE + b"\x09\x00\x10\x00LO\x04\x00GEMS\x09\x00\x01\x10UN\0\0\x03\0\0\0\xff\xfe\xfd",
    "an empty sequence": sequence(b"") + WHOLE,
    "an item of defined length": sequence(item(NAME)) + WHOLE,
    "an item of undefined length": sequence(item(NAME + ITEM_END, length=UNDEFINED)) + WHOLE,
    "a sequence of undefined length": sequence(item(NAME) + SEQUENCE_END, length=UNDEFINED) + WHOLE,
    "both undefined, nested": sequence(
        item(sequence(item(NAME + ITEM_END, length=UNDEFINED) + SEQUENCE_END, length=UNDEFINED)) + SEQUENCE_END,
        length=UNDEFINED,
    )
    + WHOLE,
    "UN of undefined length, implicit inside": sequence(
        item(b"\x08\x00\x70\x00\x04\0\0\0GE  ") + SEQUENCE_END, length=UNDEFINED, vr=b"UN"
    )
    + WHOLE,
    "sequences as deep as allowed": nested(MAX_DEPTH) + WHOLE,
    "5 MB of private data": WHOLE + b"\x09\x00\x01\x10OB\0\0" + struct.pack("<I", 5_000_000) + bytes(5_000_000),
}


@pytest.mark.parametrize("content", SLOPPY.values(), ids=SLOPPY.keys())
def test_what_real_devices_write_is_accepted(content: bytes) -> None:
    header = scan(content, ExplicitVRLittleEndian)

    assert header["SOPInstanceUID"] == SLICE.SOPInstanceUID
    assert header["Rows"] == 64


@pytest.mark.parametrize("end", [b"", b"\x01"])
def test_padding_costs_no_memory(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "padded"
    with path.open("wb") as file:
        file.write(WHOLE)
        file.seek(256 * 1024**2)
        file.write(b"\0" + end)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        tracemalloc.start()
        with pytest.raises(MalformedDataset) if end else nullcontext():
            scan(content, ExplicitVRLittleEndian)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 1024**2


# malformed


def _without_pixels(syntax: str) -> bytes:
    return encoded(altered(SLICE, PixelData=None), syntax)


ENCAPSULATED = part10(SLICE, RLELossless)
ENCAPSULATED = ENCAPSULATED[ENCAPSULATED.index(b"\x08\x00\x05\x00CS") :]
BLANK = altered(SLICE, PixelData=bytes(2 * 1000 * 1000))  # where a reader that skips astray finds zeros
BLANK_IMPLICIT, BLANK_BIG = encoded(BLANK, ImplicitVRLittleEndian), encoded(BLANK, ExplicitVRBigEndian)
EXPLICIT, IMPLICIT, BIG = ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian
MALFORMED = {
    "cut inside a value": (WHOLE[:-1], EXPLICIT),
    "cut inside a header": (WHOLE + NAME[:5], EXPLICIT),
    "cut after a long VR": (WHOLE + b"\x09\x00\x01\x10OB\0\0", EXPLICIT),
    "a length of 4 GB": (WHOLE + b"\x09\x00\x01\x10OB\0\0\xfe\xff\xff\xff", EXPLICIT),
    "a length beyond the end": (b"\x08\x00\x70\x00LO\xff\xffGE", EXPLICIT),
    "an unknown VR": (b"\x08\x00\x70\x00ZZ\x02\x00GE" + WHOLE, EXPLICIT),
    "explicit labelled implicit": (WHOLE, IMPLICIT),
    "explicit labelled implicit, blank": (encoded(BLANK), IMPLICIT),
    "implicit labelled explicit": (encoded(SLICE, IMPLICIT), EXPLICIT),
    "implicit labelled explicit, blank": (BLANK_IMPLICIT, EXPLICIT),
    "little endian labelled big": (WHOLE, BIG),
    "big endian labelled little": (BLANK_BIG, EXPLICIT),
    "big endian labelled implicit": (BLANK_BIG, IMPLICIT),
    "native labelled compressed": (WHOLE, RLELossless),
    "compressed labelled native": (ENCAPSULATED, EXPLICIT),
    "not deflated": (WHOLE, DeflatedExplicitVRLittleEndian),
    "deflated, cut": (encoded(SLICE, DeflatedExplicitVRLittleEndian)[:-20], DeflatedExplicitVRLittleEndian),
    "deflated, more behind": (encoded(SLICE, DeflatedExplicitVRLittleEndian) + b"x", DeflatedExplicitVRLittleEndian),
    "fragments without end": (ENCAPSULATED[:-8], RLELossless),
    "a fragment of undefined length": (
        ENCAPSULATED[: ENCAPSULATED.index(ITEM)] + item(b"", length=UNDEFINED) + SEQUENCE_END,
        RLELossless,
    ),
    "something between fragments": (ENCAPSULATED[:-8] + NAME, RLELossless),
    "a sequence without end": (sequence(item(NAME), length=UNDEFINED), EXPLICIT),
    "an item without end": (sequence(item(NAME, length=UNDEFINED)), EXPLICIT),
    "an item longer than its sequence": (sequence(item(NAME, length=b"\xf0\0\0\0")) + WHOLE, EXPLICIT),
    "an element longer than its item": (sequence(item(b"\x08\x00\x70\x00LO\x20\x00GE")) + WHOLE, EXPLICIT),
    "no item in a sequence": (sequence(NAME) + WHOLE, EXPLICIT),
    "a stray item delimiter": (ITEM_END + WHOLE, EXPLICIT),
    "a stray sequence delimiter": (WHOLE + SEQUENCE_END, EXPLICIT),
    "a stray delimiter in an item": (sequence(item(SEQUENCE_END)) + WHOLE, EXPLICIT),
    "file meta in the data set": (b"\x02\x00\x10\x00UI\x02\x001\0" + WHOLE, EXPLICIT),
    "a command element": (b"\x00\x00\x00\x01US\x02\x00\x01\0" + WHOLE, EXPLICIT),
    "text of undefined length": (b"\x08\x00\x70\x00UT\0\0" + UNDEFINED + WHOLE, EXPLICIT),
    "an implicit sequence broken inside": (
        b"\x08\x00\x40\x11\x0c\0\0\0" + ITEM + b"\x40\0\0\0abcd" + _without_pixels(IMPLICIT),
        IMPLICIT,
    ),
    "random bytes": (bytes(i * 7919 % 251 for i in range(4000)), EXPLICIT),
}


@pytest.mark.parametrize(("content", "syntax"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_a_whole_data_set_is_refused(content: bytes, syntax: str) -> None:
    with pytest.raises(MalformedDataset) as refusal:
        scan(content, syntax)

    assert not isinstance(refusal.value, DatasetTooLarge)


OPENED = b"\x08\x00\x40\x11SQ\0\0" + UNDEFINED + ITEM + UNDEFINED
WEARING = {
    "sequences too deep": (nested(MAX_DEPTH + 1), EXPLICIT),
    "ten thousand sequences in sequences": (OPENED * 10_000 + (ITEM_END + SEQUENCE_END) * 10_000, EXPLICIT),
    "200,001 items": (sequence(item(b"") * 200_001), EXPLICIT),
    "200,001 elements": (b"\x09\x00\x10\x00LO\x00\x00" * 200_001, EXPLICIT),
    "200,001 fragments": (ENCAPSULATED[:-8] + item(b"") * 200_001 + SEQUENCE_END, RLELossless),
}


@pytest.mark.parametrize(("content", "syntax"), WEARING.values(), ids=WEARING.keys())
def test_what_would_wear_a_reader_out_is_refused_for_good(content: bytes, syntax: str) -> None:
    with pytest.raises(MalformedDataset, match=r"more than 200000 elements|nested deeper than 32") as refusal:
        scan(content, syntax)

    assert not isinstance(refusal.value, DatasetTooLarge)  # which would say: send it again later


# whatever comes


def _structured() -> Dataset:
    """Small, with everything that has a structure of its own."""
    inner = Dataset()
    inner.ReferencedSOPInstanceUID, inner.RescaleSlope = "1.2.3", 1
    result = altered(SLICE, PixelData=bytes(32), Rows=4, Columns=4)
    result.ReferencedImageSequence = [inner, inner]
    result.ReferencedStudySequence = [altered(inner, ReferencedImageSequence=[inner])]
    return result


SEEDS = [
    (syntax, encoded(_structured(), syntax)) for syntax in (EXPLICIT, IMPLICIT, BIG, DeflatedExplicitVRLittleEndian)
] + [(RLELossless, ENCAPSULATED[-400:]), (RLELossless, ENCAPSULATED)]


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    _, content = data.draw(st.sampled_from(SEEDS))
    syntax = data.draw(st.sampled_from([EXPLICIT, IMPLICIT, BIG, DeflatedExplicitVRLittleEndian, RLELossless]))
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    flips = st.tuples(st.integers(0, max(0, len(damaged) - 1)), st.integers(0, 255))
    for place, value in data.draw(st.lists(flips, max_size=8)) if damaged else []:
        damaged[place] = value

    with suppress(MalformedDataset):
        header = scan(bytes(damaged), syntax)
        assert header.keys() <= KEPT | {"PixelDataOffset", "PixelDataLength"}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(min_value=1))
def test_a_data_set_cut_anywhere_inside_an_element_is_refused(seed: tuple[str, bytes], cut: int) -> None:
    syntax, content = seed
    shorter = content[: -(cut % 30 + 1)]  # inside PixelData, the last element, or its delimiter

    with pytest.raises(MalformedDataset):
        scan(shorter, syntax)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"])
def test_an_element_that_says_who_or_what_it_is_may_not_be_there_twice(keyword: str) -> None:
    again = Dataset()
    again[keyword] = SLICE[keyword]
    with pytest.raises(MalformedDataset, match="twice"):
        scan(WHOLE + encoded(again), ExplicitVRLittleEndian)
