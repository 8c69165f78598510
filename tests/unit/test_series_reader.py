"""What becomes a volume, with the right HU, and what is refused with which reason."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

from ichnode.domain.reasons import Reason
from ichnode.domain.study import Series
from ichnode.errors import RefusedSeries
from ichnode.imaging.header import instance_from_file
from ichnode.imaging.series_reader import acquisition_grid, read_volume, tilt_deg
from ichnode.phantom import IRREGULAR, REGULAR, REVERSED, THIN, TILTED, Geometry
from tests.series_factory import (
    COMPRESSED,
    NATIVE,
    Datasets,
    alter,
    altered,
    enhanced_ct,
    moved,
    part10,
    phantom_datasets,
    stored_series,
    stored_values,
    with_stored_values,
)

DATA = Path(os.environ.get("ICHNODE_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data in {DATA}; set ICHNODE_TEST_DATA")


@pytest.fixture(scope="module")
def datasets() -> Datasets:
    return phantom_datasets()


@pytest.fixture(scope="module")
def expected_hu(datasets: Datasets) -> np.ndarray:
    """Stored values of the phantom are HU."""
    return np.stack([stored_values(ds) for ds in datasets]).astype(np.float32)


# HU


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_every_transfer_syntax_gives_the_same_hu(
    syntax: str, datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    volume = read_volume(stored_series(datasets, tmp_path, syntax))

    np.testing.assert_array_equal(volume.hu, expected_hu)
    assert volume.hu.dtype == np.float32


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_every_transfer_syntax_gives_the_same_hu_from_twelve_unsigned_bits(
    syntax: str, datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    unsigned = [
        with_stored_values(
            ds, stored_values(ds) + 1024, BitsStored=12, HighBit=11, PixelRepresentation=0, RescaleIntercept=-1024
        )
        for ds in datasets
    ]

    np.testing.assert_array_equal(read_volume(stored_series(unsigned, tmp_path, syntax)).hu, expected_hu)


def test_garbage_in_the_unused_high_bits_is_ignored(
    datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    twelve = [
        with_stored_values(
            ds,
            (np.clip(stored_values(ds), -1024, 2047) & 0x0FFF) | (np.arange(16, dtype=np.int32)[at % 16] << 12),
            BitsStored=12,
            HighBit=11,
        )
        for at, ds in enumerate(datasets)
    ]

    np.testing.assert_array_equal(read_volume(stored_series(twelve, tmp_path)).hu, np.clip(expected_hu, -1024, 2047))


def _padded_signed(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return np.where(outside, -1500, values), {"PixelPaddingValue": -1500}


def _padded_unsigned(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return np.where(outside, 63536, values + 1024), {
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "PixelPaddingValue": 63536,  # -2000 written as unsigned
    }


def _padded_range(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    ramp = 40000 + np.arange(values.size).reshape(values.shape) % 500
    return np.where(outside, ramp, values + 1024), {
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "PixelPaddingValue": 40000,
        "PixelPaddingRangeLimit": 40499,
    }


def _padded_beyond_twelve_bits(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return np.where(outside, 63536, np.clip(values + 1024, 0, 4095)), {
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "PixelPaddingValue": 63536,
    }


@pytest.mark.parametrize(
    "pad", [_padded_signed, _padded_unsigned, _padded_range, _padded_beyond_twelve_bits], ids=lambda f: f.__name__
)
def test_padding_is_air_and_everything_else_keeps_its_hu(
    pad: Callable[..., tuple[np.ndarray, dict[str, object]]],
    datasets: Datasets,
    expected_hu: np.ndarray,
    tmp_path: Path,
) -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    outside = np.hypot(x, y) > 31
    padded = []
    for ds in datasets:
        values, attributes = pad(stored_values(ds).astype(int), outside)
        padded.append(with_stored_values(ds, values, **attributes))

    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian):
        hu = read_volume(stored_series(padded, tmp_path, syntax)).hu
        np.testing.assert_array_equal(hu, np.where(outside, -1024, expected_hu))


def test_slope_and_intercept_are_applied(datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path) -> None:
    scaled = alter(RescaleSlope="0.5", RescaleIntercept="-100")(datasets)

    np.testing.assert_allclose(read_volume(stored_series(scaled, tmp_path)).hu, expected_hu * 0.5 - 100)


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_enhanced_ct_gives_one_slice_a_frame(
    syntax: str, datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    shuffled = [datasets[i] for i in np.random.default_rng(1).permutation(len(datasets))]
    single = read_volume(stored_series(datasets, tmp_path))

    multi = read_volume(stored_series([enhanced_ct(shuffled)], tmp_path, syntax))

    np.testing.assert_array_equal(multi.hu, expected_hu)
    np.testing.assert_allclose(multi.grid.positions_lps, single.grid.positions_lps)
    assert sorted(multi.grid.frame_numbers) == list(range(1, len(datasets) + 1))
    assert shuffled[multi.grid.frame_numbers[0] - 1].InstanceNumber == 1
    assert len(set(multi.grid.sop_instance_uids)) == 1


# geometry


def test_slices_are_sorted_along_the_normal_whatever_their_order(datasets: Datasets, tmp_path: Path) -> None:
    forth = read_volume(stored_series(datasets, tmp_path))
    back = read_volume(stored_series(datasets[::-1], tmp_path))

    np.testing.assert_array_equal(back.hu, forth.hu)
    assert back.grid.sop_instance_uids == forth.grid.sop_instance_uids
    assert (np.diff(forth.grid.offsets_mm) > 0).all()


@pytest.mark.parametrize(
    ("geometry", "tilt"),
    [(REGULAR, 0), (REVERSED, 0), (THIN, 0), (TILTED, 18.5), (IRREGULAR, 0), (replace(IRREGULAR, tilt_deg=-12), 12)],
)
def test_geometries_that_scanners_make_are_accepted(geometry: Geometry, tilt: float, tmp_path: Path) -> None:
    grid = acquisition_grid(stored_series(phantom_datasets(geometry, hematoma_ml=0), tmp_path))

    assert grid.shape == (len(geometry.offsets_mm), 64, 64)
    assert tilt_deg(grid) == pytest.approx(tilt, abs=0.01)
    np.testing.assert_allclose(grid.slice_thickness_mm, geometry.thickness_mm)


def without(*indices: int) -> Callable[[Datasets], Datasets]:
    return lambda datasets: [ds for at, ds in enumerate(datasets) if at not in indices]


def _perpendicular(datasets: Datasets) -> Datasets:
    return alter(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])(datasets)


def _bent(datasets: Datasets) -> Datasets:
    for at in range(16, len(datasets)):
        datasets = moved(at, (0, 1.5 * (at - 16), 0))(datasets)
    return datasets


def _rgb(datasets: Datasets) -> Datasets:
    return [
        altered(ds, SamplesPerPixel=3, PhotometricInterpretation="RGB", PixelData=ds.PixelData * 3) for ds in datasets
    ]


def _pixel_bytes(index: int, change: Callable[[bytes], bytes]) -> Callable[[Datasets], Datasets]:
    return lambda datasets: alter(index, PixelData=change(datasets[index].PixelData))(datasets)


UID = generate_uid()
REFUSED: list[tuple[str, Callable[[Datasets], Datasets], Reason]] = [
    ("one slice lacks", without(10), Reason.MISSING_SLICES),
    ("three slices lack", without(10, 11, 12), Reason.MISSING_SLICES),
    ("slices lack in two places", without(5, 20), Reason.MISSING_SLICES),
    ("a slice comes twice", lambda d: [*d, altered(d[4], SOPInstanceUID=UID)], Reason.DUPLICATE_POSITION),
    ("the series comes twice", lambda d: d * 2, Reason.DUPLICATE_POSITION),
    ("a slice lies 2 mm too high", moved(9, (0, 0, 2)), Reason.UNEVEN_SPACING),
    ("all positions are one", alter(ImagePositionPatient=[0, 0, 0]), Reason.DUPLICATE_POSITION),
    (
        "one orientation differs",
        alter(7, ImageOrientationPatient=[1, 0, 0, 0, 0.9, -0.43589]),
        Reason.MIXED_ORIENTATION,
    ),
    ("slices are stacked along their own plane", _perpendicular, Reason.BAD_GEOMETRY),
    ("the orientation is no rotation", alter(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), Reason.BAD_GEOMETRY),
    ("the orientation lacks", alter(3, ImageOrientationPatient=None), Reason.BAD_GEOMETRY),
    ("a slice lies aside", moved(12, (4, 0, 0)), Reason.BAD_GEOMETRY),
    ("the line of slices bends", _bent, Reason.BAD_GEOMETRY),
    ("a position lacks", alter(3, ImagePositionPatient=None), Reason.BAD_GEOMETRY),
    ("a position is out of this world", alter(3, ImagePositionPatient=["0", "0", "1e300"]), Reason.BAD_GEOMETRY),
    ("pixel spacing lacks", alter(3, PixelSpacing=None), Reason.BAD_GEOMETRY),
    ("pixel spacing is zero", alter(PixelSpacing=[0, 0]), Reason.BAD_GEOMETRY),
    ("pixel spacings differ", alter(3, PixelSpacing=["0.5", "0.5"]), Reason.MIXED_PIXEL_SPACING),
    ("frames of reference differ", alter(3, FrameOfReferenceUID=UID), Reason.MIXED_FRAME_OF_REFERENCE),
    ("there is no frame of reference", alter(FrameOfReferenceUID=None), Reason.MIXED_FRAME_OF_REFERENCE),
    ("one modality differs", alter(3, Modality="MR"), Reason.MIXED_MODALITY),
    ("the modality is another", alter(Modality="PT"), Reason.NOT_CT_IMAGE),
    ("a slice is of another patient", alter(3, PatientID="OTHER"), Reason.MIXED_PATIENTS),
    ("it is a localizer", alter(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), Reason.LOCALIZER),
    ("kernels differ", alter(3, ConvolutionKernel="BONE"), Reason.MIXED_KERNEL),
    ("sizes differ", lambda d: [*d[:-1], altered(d[-1], Rows=32, Columns=128)], Reason.MIXED_SIZE),
    ("slopes differ", alter(3, RescaleSlope="2"), Reason.MIXED_RESCALE),
    ("intercepts differ", alter(3, RescaleIntercept="-1024"), Reason.MIXED_RESCALE),
    ("the slope lacks", alter(3, RescaleSlope=None), Reason.NO_RESCALE),
    ("the slope is zero", alter(RescaleSlope="0"), Reason.NO_RESCALE),
    ("the slope is absurd", alter(RescaleSlope="1e30"), Reason.NO_RESCALE),
    ("the slope is negative", alter(RescaleSlope="-1"), Reason.NO_RESCALE),
    ("the intercept lacks", alter(RescaleIntercept=None), Reason.NO_RESCALE),
    ("values are no HU", alter(RescaleType="Z_EFF"), Reason.NO_RESCALE),
    ("there are seven slices", lambda d: d[10:17], Reason.TOO_FEW_SLICES),
    ("there is one slice", lambda d: d[:1], Reason.TOO_FEW_SLICES),
    ("pixels are colored", _rgb, Reason.BAD_PIXELS),
    ("pixel data are short", _pixel_bytes(3, lambda b: b[:-2]), Reason.BAD_PIXELS),
    ("pixel data hold 13 frames", _pixel_bytes(3, lambda b: b * 13), Reason.BAD_PIXELS),
    ("pixel data lack", alter(3, PixelData=None), Reason.BAD_PIXELS),
    ("an image claims 65535 rows", alter(Rows=65535, Columns=65535), Reason.BAD_PIXELS),
    ("a CT image claims many frames", alter(3, NumberOfFrames=2**31 - 1), Reason.BAD_PIXELS),
    ("pixels have 8 bits", alter(BitsAllocated=8, BitsStored=8, HighBit=7), Reason.BAD_PIXELS),
    ("bits are stored on top", alter(BitsStored=12, HighBit=15), Reason.BAD_PIXELS),
]


@pytest.mark.parametrize(("mutate", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_become_an_honest_volume_is_refused_by_name(
    mutate: Callable[[Datasets], Datasets], reason: Reason, datasets: Datasets, tmp_path: Path
) -> None:
    with pytest.raises(RefusedSeries) as refusal:
        read_volume(stored_series(mutate(datasets), tmp_path))

    assert refusal.value.reason == reason, refusal.value.detail
    assert "PHANTOM" not in refusal.value.detail


@pytest.mark.parametrize("number", ["NaN", "abc"])
@pytest.mark.parametrize(
    ("keyword", "place", "reason"),
    [
        ("ImagePositionPatient", b"-111.4", Reason.BAD_GEOMETRY),
        ("RescaleSlope", b"1.25", Reason.NO_RESCALE),
    ],
)
def test_a_number_that_is_none_is_refused_by_name(
    number: str, keyword: str, place: bytes, reason: Reason, datasets: Datasets, tmp_path: Path
) -> None:
    scaled = alter(RescaleSlope="1.25", ImagePositionPatient=["-111.4", "-111.4", "0"])(datasets)
    series = stored_series(scaled, tmp_path)
    for instance in series.instances:
        path = Path(instance.file)
        path.write_bytes(path.read_bytes().replace(place, number.encode().ljust(len(place))))

    broken = replace(series, instances=tuple(instance_from_file(Path(i.file)) for i in series.instances))

    with pytest.raises(RefusedSeries) as refusal:
        acquisition_grid(broken)
    assert refusal.value.reason == reason
    assert keyword in refusal.value.detail or "slope" in refusal.value.detail


@pytest.mark.parametrize("missing", [14, 15, 16, 17], ids=lambda at: f"slice {at}")
def test_a_missing_slice_is_refused_where_thickness_changes_if_it_leaves_a_hole(missing: int, tmp_path: Path) -> None:
    touching = Geometry(
        offsets_mm=(*(4.0 * i for i in range(16)), *(65.5 + 7 * i for i in range(14))),
        thickness_mm=(4.0,) * 16 + (7.0,) * 14,
    )
    whole = phantom_datasets(touching, hematoma_ml=0)
    acquisition_grid(stored_series(whole, tmp_path))

    with pytest.raises(RefusedSeries) as refusal:
        acquisition_grid(stored_series(without(missing)(whole), tmp_path))
    assert refusal.value.reason == Reason.MISSING_SLICES


def test_a_missing_frame_is_refused_like_a_missing_slice(datasets: Datasets, tmp_path: Path) -> None:
    with pytest.raises(RefusedSeries) as refusal:
        read_volume(stored_series([enhanced_ct(without(10)(datasets))], tmp_path))
    assert refusal.value.reason == Reason.MISSING_SLICES


def test_thickness_that_is_missing_somewhere_or_absurd_does_not_hide_a_hole(datasets: Datasets, tmp_path: Path) -> None:
    for thickness in (None, "0", "1e6"):
        unknown = alter(9, SliceThickness=thickness)(datasets)
        grid = acquisition_grid(stored_series(unknown, tmp_path))
        np.testing.assert_allclose(grid.slice_thickness_mm, 5.0)  # the gap

        with pytest.raises(RefusedSeries) as refusal:
            acquisition_grid(stored_series(without(10)(unknown), tmp_path))
        assert refusal.value.reason == Reason.MISSING_SLICES


def test_functional_groups_that_would_exhaust_the_reader_are_refused(datasets: Datasets, tmp_path: Path) -> None:
    """Written as UN, where a scan sees bytes and pydicom unpacks sequence after sequence."""
    path = tmp_path / "enhanced"
    item = b"\xfe\xff\x00\xe0" + b"\xff" * 4
    nested = item + (b"\x08\x00\x40\x11" + b"\xff" * 4 + item) * 2000
    shared = b"\x00\x52\x29\x92"
    head, tail = part10(enhanced_ct(datasets)).split(shared + b"SQ")
    after = 6 + int.from_bytes(tail[2:6], "little")
    path.write_bytes(head + shared + b"UN\0\0" + len(nested).to_bytes(4, "little") + nested + tail[after:])
    instance = instance_from_file(path)

    with pytest.raises(RefusedSeries, match="functional groups cannot be read") as refusal:
        read_volume(Series(series_instance_uid="1", study_instance_uid="1", instances=(instance,)))
    assert refusal.value.reason == Reason.BAD_GEOMETRY


def test_frames_without_functional_groups_are_refused(datasets: Datasets, tmp_path: Path) -> None:
    multi = enhanced_ct(datasets)
    multi.PerFrameFunctionalGroupsSequence = multi.PerFrameFunctionalGroupsSequence[:-1]

    with pytest.raises(RefusedSeries) as refusal:
        read_volume(stored_series([multi], tmp_path))
    assert refusal.value.reason == Reason.BAD_GEOMETRY


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
def test_pixels_that_do_not_decode_are_refused(syntax: str, datasets: Datasets, tmp_path: Path) -> None:
    series = stored_series(datasets, tmp_path, syntax)
    path = Path(series.instances[3].file)
    content = bytearray(path.read_bytes())
    start = content.rindex(b"\xfe\xff\x00\xe0") + 8  # the fragment
    content[start:-8] = bytes(len(content) - start - 8)
    path.write_bytes(content)

    with pytest.raises(RefusedSeries) as refusal:
        read_volume(series)
    assert refusal.value.reason == Reason.BAD_PIXELS


def test_a_file_cut_off_since_its_receipt_is_refused(datasets: Datasets, tmp_path: Path) -> None:
    series = stored_series(datasets, tmp_path)
    path = Path(series.instances[3].file)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(RefusedSeries) as refusal:
        read_volume(series)
    assert refusal.value.reason == Reason.BAD_PIXELS


# real scanners


def _series_in(folder: Path) -> Series:
    instances = tuple(instance_from_file(path) for path in sorted(folder.iterdir()))
    first = instances[0]
    return Series(
        series_instance_uid=first.series_instance_uid,
        study_instance_uid=first.study_instance_uid,
        instances=instances,
    )


@needs_data
def test_a_tilted_head_with_two_thicknesses_and_an_overlap_is_accepted() -> None:
    volume = read_volume(_series_in(DATA / "ge_head_nct"))

    assert volume.hu.shape == (28, 512, 512)
    assert tilt_deg(volume.grid) == pytest.approx(18.5, abs=0.01)
    np.testing.assert_allclose(np.diff(volume.grid.offsets_mm)[[0, 13, 26]], [4.0, 1.08, 7.0], atol=0.005)
    assert volume.hu.min() == -1024
    assert 20 < np.median(volume.hu[20, 200:300, 200:300]) < 40


@needs_data
@pytest.mark.parametrize(
    ("folder", "reason"),
    [("S1000", Reason.LOCALIZER), ("S2010", None), ("S2030", None), ("S4010", Reason.NOT_CT_IMAGE)],
)
def test_the_series_of_a_real_study_are_told_apart(folder: str, reason: Reason | None) -> None:
    series = _series_in(DATA / "philips_phantom_study" / folder)

    if reason is None:
        assert acquisition_grid(series).shape[1:] == (512, 512)
    else:
        with pytest.raises(RefusedSeries) as refusal:
            acquisition_grid(series)
        assert refusal.value.reason == reason
