"""A reader opens the results in OHIF, from a PACS that they were sent to."""

from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from tests.acceptance.ohif_reader import OhifReader, ohif_reader
from tests.acceptance.study_in_pacs import StudyInPacs, contours, mask_by_source_instance

pytestmark = [pytest.mark.acceptance, pytest.mark.viewer]


@pytest.fixture(scope="module")
def reader(study: StudyInPacs) -> Iterator[OhifReader]:
    with ohif_reader(study.dicomweb_url) as opened:
        yield opened


def test_every_series_is_listed(reader: OhifReader, study: StudyInPacs) -> None:
    reader.open_study(study.study_instance_uid)

    sent = {dcmread(file, stop_before_pixels=True).SeriesDescription for file in (*study.source, *study.results)}
    assert set(reader.listed_series()) == sent


def test_every_image_series_opens_with_all_its_images(
    reader: OhifReader, study: StudyInPacs, screenshots: Path
) -> None:
    reader.open_study(study.study_instance_uid)
    for description, images in study.image_series().items():
        assert reader.open_images(description, images[0].SeriesInstanceUID) == len(images), description
        reader.show_instance(images[len(images) // 2].SOPInstanceUID)
        reader.screenshot(study.picture_file(screenshots, description))
        assert reader.lit_share() > 0.03, description
    assert reader.complaints() == []


def test_segments_are_painted_in_their_place_on_their_slices_and_nowhere_else(
    reader: OhifReader, study: StudyInPacs, screenshots: Path
) -> None:
    segmentations = study.results_of("SEG")
    assert segmentations
    for seg in segmentations:
        reader.open_study(study.study_instance_uid)
        reader.open_segmentation(seg.SeriesDescription)
        reader.screenshot(study.picture_file(screenshots, seg.SeriesDescription))
        segments = mask_by_source_instance(seg)
        for image in map(dcmread, study.source):
            reader.show_instance(image.SOPInstanceUID)
            painted = reader.painted()
            if (mask := segments.get(image.SOPInstanceUID)) is None:
                assert painted.area_mm2 == 0
            else:
                assert painted.area_mm2 == pytest.approx(mask.sum() * np.prod(image.PixelSpacing), rel=0.05, abs=10)
                assert painted.centre_lps == pytest.approx(_centre_lps(image, mask), abs=1)
        assert reader.complaints() == []


def test_the_outline_report_draws_each_contour_with_its_volume(
    reader: OhifReader, study: StudyInPacs, screenshots: Path
) -> None:
    [report] = [ds for ds in study.results_of("SR") if contours(ds)]
    images = {image.SOPInstanceUID: image for image in map(dcmread, study.source)}
    reader.open_study(study.study_instance_uid)
    reader.open_outline(report.SeriesDescription)
    reader.screenshot(study.picture_file(screenshots, report.SeriesDescription))
    for sop_instance_uid, points, volume_ml in contours(report):
        reader.show_instance(sop_instance_uid)
        assert f"Volume: {volume_ml:.2f} ml" in reader.drawn_text()
        expected = hd.spatial.ImageToReferenceTransformer.for_image(images[sop_instance_uid])(points)
        assert min(_farthest_mm(drawn, expected) for drawn in reader.drawn_contours()) < 1


def _centre_lps(image: Dataset, mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """Centre of mass in LPS mm of a (row, column) mask on a CT slice."""
    row, column = (float(index.mean()) for index in np.nonzero(mask))
    to_lps = hd.spatial.ImageToReferenceTransformer.for_image(image)
    return tuple(to_lps(np.array([[column + 0.5, row + 0.5]]))[0])


def _farthest_mm(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Hausdorff distance of two sets of points, each (point, 3)."""
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))
