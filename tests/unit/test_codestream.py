"""No decoder is asked for more pixels than the header tells of."""

from io import BytesIO
from pathlib import Path
from struct import pack

import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLossless, JPEGLSLossless, RLELossless

from ichnode.domain.reasons import Reason
from ichnode.imaging import pixels
from ichnode.imaging.codestream import check_codestream
from ichnode.imaging.series_gate import gated_slices
from ichnode.imaging.series_reader import read_volume
from ichnode.web.slices import slice_hu
from tests.series_factory import COMPRESSED, Datasets, part10, refusal_of, series_of

SIZED = [syntax for syntax in COMPRESSED if syntax != RLELossless]


def frame_of(dataset, syntax) -> bytes:
    return get_frame(dcmread(BytesIO(part10(dataset, syntax))).PixelData, 0, number_of_frames=1)


def jpeg_2000(side=64, *, form="L", **options) -> bytes:
    buffer = BytesIO()
    Image.new(form, (side, side)).save(buffer, "JPEG2000", irreversible=False, **options)
    return buffer.getvalue()


def refused(frame, syntax=JPEG2000Lossless, *, rows=64, columns=64) -> str:
    with pytest.raises(ValueError, match=r".") as refusal:
        check_codestream(frame, syntax, rows=rows, columns=columns, pixel_bytes=2)
    return str(refusal.value)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
def test_what_an_encoder_wrote_has_the_size_of_the_header(syntax: str, datasets: Datasets) -> None:
    check_codestream(frame_of(datasets[0], syntax), syntax, rows=64, columns=64, pixel_bytes=2)


@pytest.mark.parametrize("syntax", SIZED, ids=lambda uid: uid.name)
def test_another_size_than_that_of_the_header_is_refused(syntax: str, datasets: Datasets) -> None:
    frame = frame_of(datasets[0], syntax)
    for rows, columns in ((64, 63), (63, 64), (32, 128)):
        assert f"64 x 64 pixels of 1 samples are compressed where {rows} x {columns} of 1 are declared" in refused(
            frame, syntax, rows=rows, columns=columns
        )
    for end in (0, 1, 3, 10):
        refused(frame[:end], syntax)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
def test_no_decoder_sees_a_frame_that_is_larger_than_its_header_says(
    syntax: str, datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, dataset in enumerate(datasets):
        encoded = dcmread(BytesIO(part10(dataset, syntax)))
        if syntax == RLELossless:  # its size is the header's alone: a segment that goes on and on
            frame = get_frame(encoded.PixelData, 0, number_of_frames=1)
            encoded.PixelData = encapsulate([frame + bytes([129, 0]) * 9999])
        else:
            encoded.Rows, encoded.Columns = 32, 32
        encoded.save_as(tmp_path / f"{number:03d}.dcm")
    monkeypatch.setattr(pixels, "get_decoder", lambda _: pytest.fail("a decoder is asked"))

    series = series_of(sorted(tmp_path.glob("*.dcm")))
    as_analysed = refusal_of(read_volume, series)
    as_shown = refusal_of(lambda shown: slice_hu(gated_slices(shown)[0][0]), series)

    for refusal in (as_analysed, as_shown):
        assert refusal.reason == Reason.BAD_PIXELS
        assert ("bytes of RLE" if syntax == RLELossless else "64 x 64 pixels") in refusal.detail


def test_jpeg_that_gives_its_size_twice_is_refused(datasets: Datasets) -> None:
    for syntax, sof in ((JPEGLossless, 0xC3), (JPEGLSLossless, 0xF7)):
        frame = frame_of(datasets[0], syntax)
        at = frame.index(bytes((0xFF, sof)))
        header = frame[at : at + 2 + int.from_bytes(frame[at + 2 : at + 4])]
        assert refused(frame[:at] + header + frame[at:], syntax) == "it has two frame headers"
        assert refused(frame[:at] + frame[at + len(header) :], syntax) == "it has no frame header"
        for marker in (0x01, 0xD0, 0xD8, 0xD9):  # would make the next two bytes a length
            hidden = frame[:at] + pack(">BBH", 0xFF, marker, 2) + frame[at:]
            assert refused(hidden, syntax) == "it has a marker where none may be"
        assert refused(frame[:at] + b"\0" + frame[at:], syntax) == "it has no marker where one must be"
        for marker, rest in ((0xDE, b""), (0xDC, b"\0\0"), (0xF8, b"\4")):
            other = pack(">BBH", 0xFF, marker, 2 + len(rest)) + rest
            assert refused(frame[:at] + other + frame[at:], syntax) == "its size is given in more than one place"
        filled = frame[:at] + b"\xff\xff" + frame[at:]
        check_codestream(filled, syntax, rows=64, columns=64, pixel_bytes=2)


def test_jpeg_2000_in_a_jp2_file_is_looked_into() -> None:
    frame = jpeg_2000()
    assert frame[4:8] == b"jP  "
    check_codestream(frame, JPEG2000Lossless, rows=64, columns=64, pixel_bytes=1)
    assert "64 x 64" in refused(frame, rows=32)
    assert refused(frame.replace(b"colr", b"pclr", 1)) == "its JP2 boxes are not those of a CT"


def test_jpeg_2000_of_many_samples_or_tiles_is_refused() -> None:
    assert "of 3 samples" in refused(jpeg_2000(form="RGB", no_jp2=True))
    assert refused(jpeg_2000(no_jp2=True, tile_size=(1, 1))) == "it has 4096 tiles"
    check_codestream(jpeg_2000(no_jp2=True, tile_size=(16, 16)), JPEG2000Lossless, rows=64, columns=64, pixel_bytes=1)
