"""Pictures of one slice, pixel by pixel against the DICOM objects that they are of."""

from dataclasses import replace
from functools import cache
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGLSLossless

from ichnode.imaging.series_gate import gated_slices
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.windows import BLOOD, BONE, BRAIN
from ichnode.phantom import REGULAR, TILTED, head_ct
from ichnode.results.provenance import Result, Role
from ichnode.results.read_back import index_of_picture, picture_rgb, places, predicted_hu, read_segments
from ichnode.web.slices import (
    Pictures,
    difference_png,
    fill_png,
    gray_png,
    outline,
    outline_png,
    slice_hu,
)
from tests.results_factory import Case, phantom_case, save, shared_data
from tests.series_factory import COMPRESSED, NATIVE, phantom_datasets, stored_series

RGB = (230, 60, 60)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)))


def rgba(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGBA"))


@pytest.mark.parametrize(
    ("window", "black", "middle", "white"), [(BRAIN, 0, 40, 80), (BLOOD, -32.5, 75, 182.5), (BONE, -800, 600, 2000)]
)
def test_a_window_shows_its_level_as_middle_gray_and_its_ends_as_black_and_white(window, black, middle, white):
    hu = np.array([[black - 500, black, middle, white, white + 500]], np.float32)
    assert pixels(gray_png(hu, window)).tolist() == [[0, 0, 128, 255, 255]]


def test_the_outline_lies_around_the_mask_and_covers_none_of_it():
    mask = np.zeros((7, 8), bool)
    mask[2:4, 3:6] = True
    drawn = outline(mask)
    assert not (drawn & mask).any()
    expected = np.zeros_like(mask)
    expected[1:5, 2:7] = True
    assert (drawn == expected & ~mask).all()


def test_the_outline_of_a_mask_that_touches_the_edge_stays_inside_the_picture():
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    assert np.argwhere(outline(mask)).tolist() == [[0, 1], [1, 0], [1, 1]]


def test_fill_and_outline_are_clear_where_they_do_not_paint():
    mask = np.zeros((16, 9), bool)
    mask[5:9, 2:7] = True
    filled, drawn = rgba(fill_png(mask, RGB)), rgba(outline_png(mask, RGB))
    assert (filled[..., 3] == np.where(mask, 255, 0)).all()
    assert (drawn[..., 3] == np.where(outline(mask), 255, 0)).all()
    assert (filled[mask][:, :3] == RGB).all()


def test_the_difference_is_orange_where_denser_blue_where_less_dense_and_the_dimmed_ct_elsewhere():
    source = np.full((1, 4), 40, np.float32)
    shown = pixels(difference_png(source + np.array([[0, 40, -40, 400]], np.float32), source))
    same, denser, less_dense, far_denser = shown[0].tolist()
    assert same == [64, 64, 64]
    assert denser == far_denser == [255, 150, 30]
    assert less_dense == [60, 150, 255]


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED])
def test_one_slice_read_alone_has_the_values_of_the_volume(tmp_path, syntax):
    series = stored_series(phantom_datasets(), tmp_path, syntax)
    slices, _ = gated_slices(series)
    volume = read_volume(series)
    for index in (0, 11, len(slices) - 1):
        assert (slice_hu(slices[index]) == volume.hu[index]).all()


def test_one_picture_opens_one_file(tmp_path):
    series = stored_series(phantom_datasets(), tmp_path, JPEGLSLossless)
    slices, _ = gated_slices(series)
    for instance in series.instances:
        if instance is not slices[9].instance:
            (tmp_path / instance.file).unlink()
    assert slice_hu(slices[9]).shape == (64, 64)


def _reversed() -> Case:
    """The slices arrive from cranial to caudal."""
    phantom = head_ct(hematoma_ml=30, geometry=replace(REGULAR, rows=64, columns=64))
    return Case(phantom.datasets[::-1], phantom.hematoma[::-1])


def _enhanced() -> Case:
    case = phantom_case(geometry=replace(REGULAR, rows=64, columns=64))
    case.become_enhanced()
    return case


SOURCES = {
    "regular": phantom_case,
    "reversed": _reversed,
    "tilted": lambda: phantom_case(geometry=replace(TILTED, rows=64, columns=64)),
    "odd columns": lambda: phantom_case(geometry=replace(REGULAR, rows=61, columns=67)),
    "enhanced": _enhanced,
    "real GE, tilted and uneven": lambda: Case(shared_data("ge_head_nct")),
}


@cache
def composed(source: str) -> tuple[Case, dict[str, list[Result]]]:
    """A case and its results by role; composing takes a second."""
    case = SOURCES[source]()
    by_role: dict[str, list[Result]] = {}
    for result in case.results():
        by_role.setdefault(result.role, []).append(result)
    return case, by_role


@pytest.mark.parametrize("source", SOURCES)
def test_each_frame_of_a_segmentation_is_shown_on_the_slice_that_it_refers_to(tmp_path, source):
    case, results = composed(source)
    file = save(results[Role.SEGMENTATION][0], tmp_path / "seg.dcm")
    (segment,) = read_segments(file, places(case.volume.grid))
    for index, mask in enumerate(case.mask):
        assert (segment.mask(index) == mask).all()
        assert segment.area(index) == mask.sum()
    assert set(segment.frames) >= set(np.flatnonzero(case.mask.any(axis=(1, 2))))


def test_the_growth_is_a_segment_of_its_own(tmp_path):
    case, results = composed("regular")
    file = save(results[Role.PREDICTED_SEGMENTATION][0], tmp_path / "seg.dcm")
    whole, growth = read_segments(file, places(case.volume.grid))
    followup = case.prediction.followup
    index = int(case.mask.sum(axis=(1, 2)).argmax())
    assert (whole.mask(index) == followup.hematoma[index]).all()
    assert (growth.mask(index) == (followup.hematoma & ~case.mask)[index]).all()
    assert [whole.label, growth.label] == [
        "Predicted 24h hematoma (AI prediction)",
        "Predicted 24h hematoma growth (AI prediction)",
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_predicted_and_saliency_pictures_lie_on_the_slices_that_they_refer_to(tmp_path, source):
    case, results = composed(source)
    index_of, expected = places(case.volume.grid), case.prediction.followup.hu
    for index in (0, 5, len(expected) - 1):
        file = save(results[Role.PREDICTED_SERIES][index], tmp_path / "predicted.dcm")
        assert index_of_picture(file, index_of) == index
        if source != "enhanced":
            assert np.abs(predicted_hu(file) - expected[index]).max() <= 0.5
    heat = save(results[Role.EXPANSION_SALIENCY][0], tmp_path / "heat.dcm")
    assert case.mask[index_of_picture(heat, index_of)].any()
    assert picture_rgb(heat).shape == (*case.mask.shape[1:], 3)


def test_a_picture_that_refers_to_another_series_lies_nowhere(tmp_path):
    file = save(composed("regular")[1][Role.PREDICTED_SERIES][0], tmp_path / "predicted.dcm")
    assert index_of_picture(file, {("1.2.3", 1): 0}) is None


def test_kept_pictures_are_not_made_again_and_the_oldest_give_way(tmp_path):
    file = tmp_path / "slice.dcm"
    file.touch()
    made, pictures = [], Pictures(max_bytes=10)

    def picture(name):
        return pictures.get(name, [str(file)], lambda: made.append(name) or b"1234")

    for name in ("a", "b", "a", "c", "a", "b"):
        assert picture(name) == b"1234"
    assert made == ["a", "b", "c", "b"]


def test_a_kept_picture_goes_with_its_file(tmp_path):
    file = tmp_path / "slice.dcm"
    file.touch()
    pictures = Pictures()
    pictures.get("a", [str(file)], lambda: b"1")
    file.unlink()
    with pytest.raises(FileNotFoundError):
        pictures.get("a", [str(file)], lambda: b"1")
