from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.volume_factory import grid_of
from training.evaluate.metrics import dice, hd95_mm, lesions, lower_limit, upper_limit

GRID = grid_of((6, 12, 12), slice_mm=5.0, pixel_spacing_mm=(2.0, 1.0))
MASKS = arrays(np.bool_, (3, 4, 4))


def mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    result = np.zeros(GRID.shape, bool)
    for voxel in voxels:
        result[voxel] = True
    return result


def test_dice_is_twice_the_overlap_over_the_sum() -> None:
    assert dice(6.0, 2.0, 2.0) == pytest.approx(0.5)


def test_dice_is_zero_where_only_one_is_empty_and_undefined_where_both_are() -> None:
    assert dice(6.0, 0.0, 0.0) == 0.0
    assert dice(0.0, 6.0, 0.0) == 0.0
    assert dice(0.0, 0.0, 0.0) is None


@pytest.mark.parametrize(
    ("voxel", "distance_mm"),
    [((1, 2, 3), 0.0), ((2, 2, 3), 5.0), ((1, 3, 3), 2.0), ((1, 2, 6), 3.0), ((1, 4, 6), 5.0)],
)
def test_surface_distance_is_in_millimetres_along_each_axis(voxel: tuple[int, int, int], distance_mm: float) -> None:
    assert hd95_mm(mask((1, 2, 3)), mask(voxel), GRID) == pytest.approx(distance_mm)


def test_surface_distance_follows_slices_where_they_really_are() -> None:
    positions = GRID.positions_lps.copy()
    positions[3:, 2] += 7.0  # a wider gap after the third slice
    positions[3:, 1] += 9.0  # and a tilted gantry
    shifted = replace(GRID, positions_lps=positions)
    assert hd95_mm(mask((2, 2, 3)), mask((3, 2, 3)), shifted) == pytest.approx(sqrt(12.0**2 + 9.0**2))


def test_surface_distance_is_the_95th_percentile_of_the_worse_direction() -> None:
    truth = np.zeros(GRID.shape, bool)
    truth[0, 0, :10] = True  # one row of 10 voxels, 1 mm apart
    predicted = truth.copy()
    predicted[0, 10, 0] = True  # and 20 mm away an eleventh
    assert hd95_mm(truth, predicted, GRID) == pytest.approx(np.percentile([0.0] * 10 + [20.0], 95))
    assert hd95_mm(predicted, truth, GRID) == hd95_mm(truth, predicted, GRID)


def test_surface_distance_of_nothing_is_undefined_not_zero() -> None:
    assert hd95_mm(mask(), mask((1, 1, 1)), GRID) is None
    assert hd95_mm(mask((1, 1, 1)), mask(), GRID) is None
    assert hd95_mm(mask(), mask(), GRID) is None


@given(MASKS)
def test_surface_distance_of_a_mask_to_itself_is_zero(drawn: np.ndarray) -> None:
    drawn[0, 0, 0] = True
    assert hd95_mm(drawn, drawn, grid_of((3, 4, 4))) == 0.0


def test_lesions_are_the_components_of_each_type_with_their_marked_share() -> None:
    grid = grid_of((4, 20, 20), slice_mm=5.0, pixel_spacing_mm=(2.0, 2.0))  # 0.02 mL a voxel
    labels = np.zeros(grid.shape, np.uint8)
    labels[0, :4, :5] = 1  # 0.4 mL
    labels[0, 4:8, :5] = 2  # 0.4 mL, touching: another type is another lesion
    labels[2, :4, :10] = 1  # 0.8 mL
    labels[2, 10:13, 10:12] = 1  # 0.12 mL: too small to be asked for
    predicted = np.zeros(grid.shape, bool)
    predicted[0, :1, :3] = True  # 3 of 20 voxels
    predicted[2, :1, :3] = True  # 3 of 40 voxels
    found = lesions(labels, predicted, grid)
    assert [(one.type, round(one.truth_ml, 6), round(one.marked, 6), one.found) for one in found] == [
        ("IPH", 0.4, 0.15, True),
        ("IPH", 0.8, 0.075, False),
        ("IVH", 0.4, 0.0, False),
    ]


def test_hemorrhage_of_unknown_type_is_a_lesion_and_an_unknown_voxel_is_none() -> None:
    grid = grid_of((2, 20, 20), slice_mm=5.0, pixel_spacing_mm=(2.0, 2.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[0, :4, :5], labels[1, :10, :10] = 6, 255
    assert [one.type for one in lesions(labels, labels > 0, grid)] == ["any"]


def test_limits_of_agreement_are_the_mean_and_nearly_two_deviations() -> None:
    errors = np.array([-1.0, 1.0, 3.0])  # mean 1, SD 2
    assert lower_limit(errors) == pytest.approx(1 - 3.92)
    assert upper_limit(errors) == pytest.approx(1 + 3.92)


def test_one_patient_has_no_limits_of_agreement() -> None:
    assert np.isnan(lower_limit(np.array([1.0])))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_limits_enclose_the_mean(errors: list[float]) -> None:
    values = np.array(errors)
    assert lower_limit(values) <= values.mean() + 1e-9 <= upper_limit(values) + 2e-9
