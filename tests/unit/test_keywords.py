"""What is read of the kept keywords, and what becomes of values that are not what they should be."""

import struct

import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from ichnode.imaging.header import scan
from tests.series_factory import altered, encoded, phantom_datasets


def test_absent_and_empty_values_have_no_key() -> None:
    ct = phantom_datasets()[0]
    header = scan(encoded(altered(ct, BodyPartExamined="", ConvolutionKernel=None)), ExplicitVRLittleEndian)

    assert not {"BodyPartExamined", "ConvolutionKernel", "ContrastBolusAgent"} & header.keys()


@pytest.mark.parametrize(("raw", "value"), [(b"abc ", "abc"), (b"nan ", "nan"), (b"1e99", 1e99), (b"1_0 ", "1_0")])
def test_a_number_that_does_not_decode_stays_the_text_it_is(raw: bytes, value: object) -> None:
    header = scan(b"\x28\x00\x53\x10DS\x04\x00" + raw, ExplicitVRLittleEndian)

    assert header == {"RescaleSlope": value}


@pytest.mark.parametrize(("raw", "value"), [(b"-00000000017", -17), (b"1" * 13, "1" * 13), (b"9" * 400, "9" * 400)])
def test_an_integer_string_longer_than_its_vr_allows_stays_text(raw: bytes, value: object) -> None:
    element = b"\x20\x00\x13\x00IS" + struct.pack("<H", len(raw) + len(raw) % 2) + raw + b" " * (len(raw) % 2)

    assert scan(element, ExplicitVRLittleEndian) == {"InstanceNumber": value}


@pytest.mark.parametrize(("vr", "order"), [(b"US", "<"), (b"SS", "<"), (b"US", ">")])
def test_padding_is_signed_as_the_pixels_are(vr: bytes, order: str) -> None:
    representation = struct.pack(f"{order}HH", 0x28, 0x103) + b"US" + struct.pack(f"{order}HH", 2, 1)
    padding = struct.pack(f"{order}HH", 0x28, 0x120) + vr + struct.pack(f"{order}HH", 2, 0x10000 - 2000)
    syntax = ExplicitVRBigEndian if order == ">" else ExplicitVRLittleEndian

    assert scan(representation + padding, syntax)["PixelPaddingValue"] == -2000


def test_text_is_kept_byte_for_byte_whatever_the_character_set() -> None:
    raw = "山田^太郎".encode("gb18030") + b"\x1b$B"
    element = b"\x10\x00\x20\x00LO" + struct.pack("<H", len(raw)) + raw

    assert scan(element, ExplicitVRLittleEndian)["PatientID"] == raw.decode("latin-1")
