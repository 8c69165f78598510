"""Which gray a HU becomes in each window."""

import numpy as np
import pytest

from ichnode.imaging.windows import BONE, BRAIN, STROKE, SUBDURAL, Window, apply


@pytest.mark.parametrize(
    ("window", "black_hu", "middle_hu", "white_hu"),
    [(BRAIN, 0, 40, 80), (SUBDURAL, -25, 75, 175), (STROKE, 20, 40, 60), (BONE, -800, 600, 2000)],
    ids=lambda value: value.name if isinstance(value, Window) else None,
)
def test_a_window_reaches_from_black_through_the_middle_to_white(
    window: Window, black_hu: float, middle_hu: float, white_hu: float
) -> None:
    assert (window.low_hu, window.high_hu) == (black_hu, white_hu)

    hu = np.array([-1024, black_hu - 1, black_hu, middle_hu, white_hu, white_hu + 1, 3071], np.float32)

    assert apply(hu, window).tolist() == [0, 0, 0, 128, 255, 255, 255]


@pytest.mark.parametrize(("hu", "gray"), [(8, 26), (20, 64), (30, 96), (64, 204), (79.9, 255)])
def test_grays_inside_the_brain_window_are_linear_and_rounded(hu: float, gray: int) -> None:
    assert apply(np.array([hu], np.float32), BRAIN).tolist() == [gray]


def test_grays_keep_the_shape_and_are_bytes() -> None:
    gray = apply(np.zeros((2, 3, 4), np.float32), BRAIN)

    assert gray.shape == (2, 3, 4)
    assert gray.dtype == np.uint8
