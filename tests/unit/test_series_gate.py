"""What becomes a volume, and what is refused with which reason, from headers alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from ichnode.domain.reasons import Reason
from ichnode.imaging.series_gate import acquisition_grid
from ichnode.imaging.slice_positions import tilt_deg
from ichnode.phantom import IRREGULAR, REGULAR, REVERSED, THIN, TILTED, Geometry
from tests.series_factory import (
    Datasets,
    alter,
    altered,
    moved,
    phantom_datasets,
    refusal_of,
    series_of,
    stored_series,
    without,
)


@pytest.mark.parametrize(
    ("geometry", "tilt"),
    [(REGULAR, 0), (REVERSED, 0), (THIN, 0), (TILTED, 18.5), (IRREGULAR, 0), (replace(IRREGULAR, tilt_deg=-12), 12)],
)
def test_geometries_that_scanners_make_are_accepted(geometry: Geometry, tilt: float, tmp_path: Path) -> None:
    grid = acquisition_grid(stored_series(phantom_datasets(geometry, hematoma_ml=0), tmp_path))

    assert grid.shape == (len(geometry.offsets_mm), 64, 64)
    assert tilt_deg(grid.positions_lps, grid.normal_lps) == pytest.approx(tilt, abs=0.01)
    np.testing.assert_allclose(grid.slice_thickness_mm, geometry.thickness_mm)


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
    refusal = refusal_of(acquisition_grid, stored_series(mutate(datasets), tmp_path))

    assert refusal.reason == reason, refusal.detail
    assert "PHANTOM" not in refusal.detail


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

    refusal = refusal_of(acquisition_grid, series_of([Path(instance.file) for instance in series.instances]))

    assert refusal.reason == reason
    assert keyword in refusal.detail or "slope" in refusal.detail


@pytest.mark.parametrize("missing", [14, 15, 16, 17], ids=lambda at: f"slice {at}")
def test_a_missing_slice_is_refused_where_thickness_changes_if_it_leaves_a_hole(missing: int, tmp_path: Path) -> None:
    touching = Geometry(
        offsets_mm=(*(4.0 * i for i in range(16)), *(65.5 + 7 * i for i in range(14))),
        thickness_mm=(4.0,) * 16 + (7.0,) * 14,
    )
    whole = phantom_datasets(touching, hematoma_ml=0)
    acquisition_grid(stored_series(whole, tmp_path))

    refusal = refusal_of(acquisition_grid, stored_series(without(missing)(whole), tmp_path))
    assert refusal.reason == Reason.MISSING_SLICES


def test_thickness_that_is_missing_somewhere_or_absurd_does_not_hide_a_hole(datasets: Datasets, tmp_path: Path) -> None:
    for thickness in (None, "0", "1e6"):
        unknown = alter(9, SliceThickness=thickness)(datasets)
        grid = acquisition_grid(stored_series(unknown, tmp_path))
        np.testing.assert_allclose(grid.slice_thickness_mm, 5.0)  # the gap

        refusal = refusal_of(acquisition_grid, stored_series(without(10)(unknown), tmp_path))
        assert refusal.reason == Reason.MISSING_SLICES


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("S1000", Reason.LOCALIZER), ("S2010", None), ("S2030", None), ("S4010", Reason.NOT_CT_IMAGE)],
)
def test_the_series_of_a_real_study_are_told_apart(folder: str, reason: Reason | None, test_data: Path) -> None:
    series = series_of(sorted((test_data / "philips_phantom_study" / folder).iterdir()))

    if reason is None:
        assert acquisition_grid(series).shape[1:] == (512, 512)
    else:
        assert refusal_of(acquisition_grid, series).reason == reason
