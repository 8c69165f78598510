"""A reader opens the results in dwv, from a PACS that they were sent to."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from ichnode.results.provenance import SERIES_DESCRIPTIONS, Role
from tests.acceptance.dwv import DwvReader, Place, dwv_reader
from tests.acceptance.study_in_pacs import StudyInPacs, contours, mask_by_source_instance

pytestmark = [pytest.mark.acceptance, pytest.mark.viewer]


@pytest.fixture(scope="module")
def reader(study: StudyInPacs) -> Iterator[DwvReader]:
    with dwv_reader(study.dicomweb_url) as opened:
        yield opened
        assert opened.complaints == []


@pytest.fixture
def source(study: StudyInPacs) -> list[Dataset]:
    """The CT that was analysed."""
    return [dcmread(file) for file in study.source]


def test_every_image_series_opens_with_all_its_images(reader: DwvReader, study: StudyInPacs, screenshots: Path) -> None:
    for description, images in study.image_series().items():
        reader.begin()
        name = reader.show(images[0])
        assert reader.slice_count(name) == len(images), description
        image = images[len(images) // 2]
        reader.turn_to(name, image.SOPInstanceUID)
        reader.screenshot(study.picture_file(screenshots, f"dwv {description}"))
        picture = reader.at_pixels(name, reader.screen())
        assert (picture > 40).mean() > 0.03, description
        if image.SamplesPerPixel == 3:  # the page has more pixels than fit on the screen
            assert np.abs(picture - image.pixel_array).mean() < (0.1 if image.Rows < 640 else 10), description


def test_the_predicted_series_scrolls_in_step_with_its_source(
    reader: DwvReader, study: StudyInPacs, source: list[Dataset]
) -> None:
    [predicted] = [images for images in study.image_series().values() if images[0].Modality == "CT"]
    position_of = {image.SOPInstanceUID: image.ImagePositionPatient for image in predicted}
    # a Secondary Capture stays where it is beside its source; laid over it, it follows
    place: Place = "right" if predicted[0].SOPClassUID == CTImageStorage else "left"
    reader.begin()
    ct = reader.show(source[0])
    follower = reader.show(predicted[0], place)
    for image in source:
        reader.turn_to(ct, image.SOPInstanceUID)
        assert position_of[reader.instance_on_screen(follower)] == image.ImagePositionPatient


def test_the_segment_is_painted_on_exactly_its_pixels(
    reader: DwvReader, study: StudyInPacs, source: list[Dataset], screenshots: Path
) -> None:
    seg = _segmentation(study)
    masks = mask_by_source_instance(seg)
    reader.begin()
    ct = reader.show(source[0])
    assert reader.slice_count(ct) == len(source)
    reader.show(seg)
    for image in source:
        reader.turn_to(ct, image.SOPInstanceUID)
        painted = _coloured(reader.at_pixels(ct, reader.screen()))
        if (mask := masks.get(image.SOPInstanceUID)) is None:
            assert not painted.any()
        else:
            np.testing.assert_array_equal(painted, mask)
            reader.screenshot(study.picture_file(screenshots, f"dwv {seg.SeriesDescription}"))


def test_the_outline_report_draws_each_contour_on_its_slice_and_the_other_reports_nothing(
    reader: DwvReader, study: StudyInPacs, source: list[Dataset], screenshots: Path
) -> None:
    reports = study.results_of("SR")
    [outline] = [report for report in reports if contours(report)]
    outlined = {sop_instance_uid for sop_instance_uid, *_ in contours(outline)}
    masks = mask_by_source_instance(_segmentation(study))
    reader.begin()
    ct = reader.show(source[0])
    for report in reports:
        reader.show(report)
    for image in source:
        reader.turn_to(ct, image.SOPInstanceUID)
        drawn = reader.at_pixels(ct, binary_fill_holes(_coloured(reader.screen())))
        assert drawn.any() == (image.SOPInstanceUID in outlined)
        if drawn.any():
            reader.screenshot(study.picture_file(screenshots, f"dwv {outline.SeriesDescription}"))
            mask = masks[image.SOPInstanceUID]
            assert drawn[binary_erosion(mask)].all()
            assert not drawn[~binary_dilation(mask, iterations=2)].any()


def _segmentation(study: StudyInPacs) -> Dataset:
    """The segmentation of what was found, not of what is predicted."""
    [seg] = [seg for seg in study.results_of("SEG") if seg.SeriesDescription == SERIES_DESCRIPTIONS[Role.SEGMENTATION]]
    return seg


def _coloured(picture: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where a picture (.., .., red green blue) is not grey, as the CT is."""
    return np.ptp(picture, axis=2) > 10
