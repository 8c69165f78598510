"""The box of the head: a table, a head holder and the field of view change nothing about it."""

import numpy as np

from ichnode.imaging.head_box import head_box

SPACING_MM = (5.0, 2.0, 2.0)


def head() -> np.ndarray:
    """A cylinder of 160 mm, in the middle of 240 mm of air."""
    y, x = np.mgrid[:120, :120] - 59.5
    hu = np.full((12, 120, 120), -1000, np.float32)
    hu[2:10, (y**2 + x**2) < 40**2] = 40
    return hu


def test_it_holds_the_head_and_a_little_air() -> None:
    assert head_box(head(), SPACING_MM) == (slice(1, 11), slice(18, 102), slice(18, 102))


def test_a_table_and_a_head_holder_that_touches_are_left_out() -> None:
    hu = head()
    hu[:, 116:, :] = 100
    hu[:, 98:102, 5:115] = 100
    _, y, x = head_box(hu, SPACING_MM)
    assert (y.start, x) == (18, slice(18, 102))
    assert y.stop <= 104


def test_gray_values_whose_air_is_black_are_no_head_without_end() -> None:
    hu = np.maximum(head(), 0)
    assert head_box(hu, SPACING_MM) == head_box(head(), SPACING_MM)


def test_without_a_head_it_is_everything() -> None:
    assert head_box(np.full((3, 8, 9), -1000, np.float32), SPACING_MM) == (slice(0, 3), slice(0, 8), slice(0, 9))


def test_a_large_part_beside_the_head_belongs_to_it_and_a_small_one_does_not() -> None:
    hu = head()
    hu[2:10, 55:65, 104:110] = 40
    assert head_box(hu, SPACING_MM)[2] == slice(18, 102)
    hu[2:10, 20:100, 104:114] = 40
    assert head_box(hu, SPACING_MM)[2] == slice(18, 116)


def test_neck_and_shoulders_are_left_out() -> None:
    hu = np.full((60, 120, 120), -1000, np.float32)
    hu[:10, 30:90] = 40
    hu[10:58] = head()[5]
    z, y, x = head_box(hu, SPACING_MM)
    assert (z.stop, 5 * (z.stop - z.start)) == (59, 200)
    assert (y, x) == (slice(18, 102), slice(18, 102))


def test_gray_values_on_a_tilted_box_have_black_air_too() -> None:
    hu = np.maximum(head(), 0)
    hu[:, :10] = -1024  # where nothing was acquired
    assert head_box(hu, SPACING_MM) == head_box(head(), SPACING_MM)
