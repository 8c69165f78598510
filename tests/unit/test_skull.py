"""A skull that a display window has clipped, as networks are shown it."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from ichnode.imaging.skull import with_dense_skull
from ichnode.imaging.volume import FloatArray, Mask
from tests.volume_factory import real_volume

SPACING_MM = (0.8, 0.8)
CLOT = slice(90, 120)


@pytest.fixture
def head() -> FloatArray:
    """Skull with brain of 35 HU and a clot of 65 HU in it, (slice, row, column), with noise."""
    y, x = np.mgrid[:240, :200]
    radius_mm = 0.8 * np.hypot(y - 120, 1.2 * (x - 100))
    plane = np.interp(radius_mm, (79, 80, 86, 87), (35, 1000, 1000, -1000))
    hu = np.stack([plane] * 6)
    hu[:, CLOT, CLOT] = 65
    return (hu + np.random.default_rng(1).normal(0, 4, hu.shape)).astype(np.float32)


def inner_bone(head: FloatArray) -> Mask:
    """Without its outermost pixels."""
    return np.asarray(ndimage.binary_erosion(head > 300, np.ones((1, 3, 3)), iterations=2), np.bool_)


@pytest.mark.parametrize("window", [(0, 80), (-20, 100), (-100, 200), (-1024, 240)])
def test_a_clipped_skull_is_dense_again_and_nothing_else_changes(head: FloatArray, window: tuple[float, float]) -> None:
    clipped = head.clip(*window)
    seen = with_dense_skull(clipped, SPACING_MM)
    assert (seen[inner_bone(head)] > window[1] + 250).all()
    np.testing.assert_array_equal(seen[head < 100], clipped[head < 100])


def test_a_skull_without_a_bone_flap_is_dense_again(head: FloatArray) -> None:
    head[:, 60:140, 150:] = 40
    assert (with_dense_skull(head.clip(0, 80), SPACING_MM)[inner_bone(head)] > 300).all()


def test_blocks_of_jpeg_keep_no_bone_from_it(head: FloatArray) -> None:
    grays = head.clip(0, 80) + np.random.default_rng(2).normal(0, 1.5, head.shape).astype(np.float32) * (head > 80)
    assert (with_dense_skull(grays.clip(0, 80), SPACING_MM)[inner_bone(head)] > 300).mean() > 0.99


def test_a_calcified_plexus_is_dense_again_and_a_clot_with_a_white_middle_is_not(head: FloatArray) -> None:
    ventricle, calcified, middle = slice(135, 155), slice(140, 150), slice(100, 110)
    head[:, ventricle, ventricle], head[:, calcified, calcified], head[:, middle, middle] = 8, 300, 110
    seen = with_dense_skull(head.clip(0, 80), SPACING_MM)
    assert np.median(seen[:, calcified, calcified]) > 300
    assert seen[:, CLOT, CLOT].max() == 80


def test_blood_that_is_brighter_than_the_window_here_and_there_does_not_hide_the_skull(head: FloatArray) -> None:
    """As in a predicted next CT, whose change is added to clipped values."""
    clipped = head.clip(0, 80)
    clipped[:, CLOT, CLOT] += 30
    assert (with_dense_skull(clipped, SPACING_MM)[inner_bone(head)] > 300).all()


def without_skull(head: FloatArray) -> FloatArray:
    return np.where(head > 100, np.float32(-1000), head)


def brain_alone_in_a_window(head: FloatArray) -> FloatArray:
    return without_skull(head).clip(0, 60)


def even_brain_alone(head: FloatArray) -> FloatArray:
    return np.where(head > 0, np.float32(38), np.float32(-1000))


def nothing(head: FloatArray) -> FloatArray:
    return np.zeros_like(head)


@pytest.mark.parametrize("shown", [np.asarray, without_skull, brain_alone_in_a_window, even_brain_alone, nothing])
def test_where_no_skull_is_clipped_nothing_changes(head: FloatArray, shown: Callable[[FloatArray], FloatArray]) -> None:
    np.testing.assert_array_equal(with_dense_skull(shown(head), SPACING_MM), shown(head))


@pytest.mark.parametrize("window", [(0, 80), (-10, 70), (-20, 100)])
def test_the_skull_of_a_real_head_is_found_in_a_window(window: tuple[float, float]) -> None:
    volume = real_volume("ge_head_nct")
    seen = with_dense_skull(volume.hu.clip(*window), volume.grid.pixel_spacing_mm)
    brain = (volume.hu > 10) & (volume.hu < 50)
    assert (seen[volume.hu > 500] > 200).mean() > 0.9
    assert (seen[brain] > 100).mean() < 0.005
