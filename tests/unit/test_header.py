"""What is read from encoded bytes and from files."""

import random
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ichnode.errors import DatasetTooLarge, MalformedDataset
from ichnode.imaging.header import inflate, inflated, instance_from_file, scan
from ichnode.imaging.keywords import KEPT
from ichnode.imaging.slices import byte_place
from tests.series_factory import COMPRESSED, NATIVE, altered, encoded, part10, phantom_datasets

SLICE = phantom_datasets()[0]
WHOLE = encoded(SLICE)


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_the_same_values_are_read_under_every_transfer_syntax(syntax: str, tmp_path: Path) -> None:
    path = tmp_path / "slice"
    path.write_bytes(part10(SLICE, syntax))

    header = instance_from_file(path).header

    places = {"PixelDataOffset", "PixelDataLength", "DataSetOffset"}
    plain = scan(WHOLE, ExplicitVRLittleEndian)
    assert {k: v for k, v in header.items() if k not in places} == {k: v for k, v in plain.items() if k not in places}
    assert header["ImageType"] == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert header["ConvolutionKernel"] == ("STANDARD",)
    assert header["ImageOrientationPatient"] == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert (header["Rows"], header["PixelRepresentation"], header["InstanceNumber"]) == (64, 1, 1)
    assert header["SliceThickness"] == 5.0


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda uid: uid.name)
def test_native_pixels_are_where_the_header_says(syntax: str, tmp_path: Path) -> None:
    path = tmp_path / "slice"
    path.write_bytes(part10(SLICE, syntax))
    header = instance_from_file(path).header

    start = byte_place(header, "DataSetOffset") + byte_place(header, "PixelDataOffset")
    assert path.read_bytes()[start : start + byte_place(header, "PixelDataLength")] == SLICE.PixelData


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless], ids=lambda uid: uid.name)
def test_pixels_that_do_not_lie_plain_in_the_file_have_no_place(syntax: str, tmp_path: Path) -> None:
    path = tmp_path / "slice"
    path.write_bytes(part10(SLICE, syntax))

    assert not {"PixelDataOffset", "PixelDataLength"} & instance_from_file(path).header.keys()


def test_every_real_object_is_accepted_and_read_as_pydicom_reads_it(test_data: Path) -> None:
    folders = [test_data / "ge_head_nct", test_data / "philips_phantom_study"]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(paths) > 150
    for path in paths:
        header, peer = instance_from_file(path).header, dcmread(path, stop_before_pixels=True)
        for keyword in KEPT:
            theirs = peer.get(keyword)
            if theirs in (None, ""):
                assert keyword not in header
            else:
                assert _plain(header[keyword]) == _plain(theirs), f"{keyword} in {path}"


def _plain(value: object) -> list[object]:
    values = [value] if isinstance(value, str | int | float) else list(value)  # type: ignore[call-overload]
    return [float(v) if isinstance(v, int | float) else str(v) for v in values]


def test_a_bare_data_set_without_file_meta_is_read(tmp_path: Path) -> None:
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        path = tmp_path / "bare"
        path.write_bytes(encoded(SLICE, syntax))

        instance = instance_from_file(path)

        assert instance.transfer_syntax_uid == syntax
        assert instance.header["DataSetOffset"] == 0
        assert instance.sop_instance_uid == SLICE.SOPInstanceUID


def test_a_deflate_bomb_is_not_inflated_beyond_the_cap() -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(64 * 1024**2)) + deflater.flush()

    with pytest.raises(DatasetTooLarge, match="1048576"):
        scan(bomb, DeflatedExplicitVRLittleEndian, max_inflated=1024**2)


def test_a_file_that_names_no_instance_is_malformed(tmp_path: Path) -> None:
    for content in (b"", bytes(2000), encoded(altered(SLICE, SeriesInstanceUID=None)), b"\x02\0\x10\0UI\xff\xff"):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(MalformedDataset):
            instance_from_file(path)


@pytest.mark.parametrize("size", [1, 262_143, 262_144, 262_145, 1_000_000])
def test_what_was_deflated_comes_out_whole_in_whatever_pieces(size):
    content = random.Random(size).randbytes(size)
    deflated = zlib.compress(content, wbits=-15)
    assert inflate(deflated) == content
    assert b"".join(inflated(b"head" + deflated + b"\0", start=4)) == content
    for wrong in (deflated[:-1], deflated + b"x", b"", zlib.compress(b"", wbits=-15)):
        with pytest.raises(MalformedDataset):
            inflate(wrong)
