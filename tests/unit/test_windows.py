"""Which gray a HU becomes in the brain window."""

import numpy as np
import pytest

from ichnode.imaging.windows import BRAIN, apply


def test_the_brain_window_reaches_from_black_through_the_middle_to_white() -> None:
    hu = np.array([-1024, -1, 0, 40, 80, 81, 3071], np.float32)

    assert apply(hu, BRAIN).tolist() == [0, 0, 0, 128, 255, 255, 255]


@pytest.mark.parametrize(("hu", "gray"), [(8, 26), (20, 64), (30, 96), (64, 204), (79.9, 255)])
def test_grays_inside_the_brain_window_are_linear_and_rounded(hu: float, gray: int) -> None:
    assert apply(np.array([hu], np.float32), BRAIN).tolist() == [gray]


def test_grays_keep_the_shape_and_are_bytes() -> None:
    gray = apply(np.zeros((2, 3, 4), np.float32), BRAIN)

    assert gray.shape == (2, 3, 4)
    assert gray.dtype == np.uint8
