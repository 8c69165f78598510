"""DCMTK's dcmj2pnm, which many a PACS prints and exports with, draws every picture among the results as it is meant."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ichnode.imaging.windows import BRAIN, apply
from ichnode.phantom import head_ct
from ichnode.results.provenance import Role
from tests.acceptance.peers import program, run
from tests.results_factory import SMALL, Case

pytestmark = pytest.mark.acceptance

OF_COLOUR = (Role.SUMMARY_PAGE, *(role for role in Role if role.endswith("_saliency")))
OF_SEGMENTS = (Role.SEGMENTATION, Role.PREDICTED_SEGMENTATION)


@cache
def composed():
    phantom = head_ct(hematoma_ml=30, geometry=SMALL)
    return Case(phantom.datasets, phantom.hematoma).results()


def of_role(role: Role):
    found = [result.dataset for result in composed() if result.role == role]
    assert found
    return found


@pytest.fixture
def drawn(tmp_path: Path):
    """What dcmj2pnm makes of a data set: (row, column) or (row, column, 3) of 0 to 255."""

    def draw(dataset, *options: str) -> NDArray[np.uint8]:
        file, picture = tmp_path / "result.dcm", tmp_path / "result.png"
        dataset.save_as(file, enforce_file_format=True)
        done = run([program("dcmj2pnm", "dcmtk"), "--write-png", *options, file, picture])
        assert done.returncode == 0, done.stdout
        assert done.stdout == ""  # it warns of what it has to guess
        return np.asarray(Image.open(picture))

    return draw


@pytest.mark.parametrize("role", OF_COLOUR)
def test_pages_in_colour(role: Role, drawn) -> None:
    for dataset in of_role(role):
        np.testing.assert_array_equal(drawn(dataset), dataset.pixel_array)


def test_the_predicted_follow_up_in_a_brain_window_and_in_its_own(drawn) -> None:
    brain = ("+Ww", str(BRAIN.level), str(BRAIN.width))
    for dataset in of_role(Role.PREDICTED_SERIES):
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        expected = apply(hu.astype(np.float32), BRAIN).astype(int)
        assert expected.any()
        for options in (brain, ("+Wi", "1")):  # the window that the object names first is the brain's
            assert np.abs(drawn(dataset, *options) - expected).max() <= 3  # its LINEAR is half a HU beside ours


@pytest.mark.parametrize("role", OF_SEGMENTS)
def test_each_frame_of_a_segmentation(role: Role, drawn) -> None:
    [dataset] = of_role(role)
    frames: Sequence[NDArray[np.uint8]] = dataset.pixel_array
    for number, frame in enumerate(frames, 1):
        assert frame.any()
        np.testing.assert_array_equal(drawn(dataset, "--frame", str(number)) > 0, frame > 0)
