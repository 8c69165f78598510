"""A reader opens the results in OHIF, from a PACS that they were sent to."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from ichnode.simulated_patient import simulated_patient
from tests.acceptance.dcmtk import storescu
from tests.acceptance.drawn import disc, write_results
from tests.acceptance.ohif import ohif_dist, ohif_server
from tests.acceptance.orthanc import HARNESS_AE, Orthanc
from tests.acceptance.peers import run
from tests.acceptance.viewer import Viewer, viewer

pytestmark = [pytest.mark.acceptance, pytest.mark.viewer]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInPacs:
    """A source series and what was made of it, by the files that were sent."""

    name: str
    source: Sequence[Path]
    results: Sequence[Path]

    @property
    def study_instance_uid(self) -> str:
        return str(dcmread(self.source[0], stop_before_pixels=True).StudyInstanceUID)

    def results_of(self, *modalities: str) -> list[Dataset]:
        """The result instances of these modalities."""
        return [ds for ds in map(dcmread, self.results) if ds.Modality in modalities]


@pytest.fixture(scope="module", params=["drawn", "analysed"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StudyInPacs:
    """A plastic head from a real scanner with a hematoma drawn into it; or the simulated patient, analysed."""
    folder = tmp_path_factory.mktemp("study")
    if request.param == "drawn":
        files = sorted((request.getfixturevalue("test_data") / "philips_phantom_study" / "S2010").iterdir())
        results = write_results(files, disc(range(10, 17), radius_mm=18), folder)
    else:
        files = _patient_files(folder / "source")
        results = _analyzed(folder / "source", folder / "results")
    return StudyInPacs(name=request.param, source=files, results=results)


def _patient_files(folder: Path) -> list[Path]:
    folder.mkdir()
    datasets = simulated_patient().datasets
    files = [folder / f"{number:03}.dcm" for number in range(len(datasets))]
    for file, ds in zip(files, datasets, strict=True):
        ds.save_as(file, enforce_file_format=True)
    return files


def _analyzed(source: Path, out: Path) -> list[Path]:
    done = run([Path(sys.executable).with_name("ichnode"), "analyze", source, "--out", out], timeout_s=300)
    assert done.returncode == 0, done.stdout
    return sorted(out.rglob("*.dcm"))


@pytest.fixture(scope="module")
def reader(study: StudyInPacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """OHIF on a PACS that the study was sent to."""
    dist = ohif_dist()
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as pacs:
        storescu("127.0.0.1", pacs.dicom_port, [*study.source, *study.results], pacs.ae_title, HARNESS_AE)
        with ohif_server(dist, pacs.dicomweb_url) as url, viewer(url) as opened:
            yield opened


def test_every_series_is_listed(reader: Viewer, study: StudyInPacs) -> None:
    reader.open_study(study.study_instance_uid)

    sent = {dcmread(file, stop_before_pixels=True).SeriesDescription for file in (*study.source, *study.results)}
    assert set(reader.listed_series()) == sent


def test_every_image_series_opens_with_all_its_images(reader: Viewer, study: StudyInPacs, screenshots: Path) -> None:
    reader.open_study(study.study_instance_uid)
    images = [ds for ds in study.results_of("CT", "OT") if "PixelData" in ds]
    counts = Counter((ds.SeriesDescription, ds.SeriesInstanceUID) for ds in images)
    assert counts
    for (description, series_instance_uid), count in counts.items():
        assert reader.open_images(description, series_instance_uid) == count, description
        reader.screenshot(_picture(screenshots, study, description))
    assert reader.complaints() == []


def test_segments_are_painted_in_their_place_on_their_slices_and_nowhere_else(
    reader: Viewer, study: StudyInPacs, screenshots: Path
) -> None:
    segmentations = study.results_of("SEG")
    assert segmentations
    for seg in segmentations:
        reader.open_study(study.study_instance_uid)
        reader.open_segmentation(seg.SeriesDescription)
        reader.screenshot(_picture(screenshots, study, seg.SeriesDescription))
        segments = _mask_by_source_instance(seg)
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
    reader: Viewer, study: StudyInPacs, screenshots: Path
) -> None:
    [report] = [ds for ds in study.results_of("SR") if _contours(ds)]
    images = {image.SOPInstanceUID: image for image in map(dcmread, study.source)}
    reader.open_study(study.study_instance_uid)
    reader.open_outline(report.SeriesDescription)
    reader.screenshot(_picture(screenshots, study, report.SeriesDescription))
    for sop_instance_uid, points, volume_ml in _contours(report):
        reader.show_instance(sop_instance_uid)
        assert f"Volume: {volume_ml:.2f} ml" in reader.drawn_text()
        expected = hd.spatial.ImageToReferenceTransformer.for_image(images[sop_instance_uid])(points)
        assert min(_farthest_mm(drawn, expected) for drawn in reader.drawn_contours()) < 1


def _picture(folder: Path, study: StudyInPacs, description: str) -> Path:
    return folder / f"{study.name} {description.replace(':', '')}.png"


def _mask_by_source_instance(seg: Dataset) -> dict[str, NDArray[np.bool_]]:
    """SOP Instance UID of the source -> (row, column) mask of all segments there."""
    masks: dict[str, NDArray[np.bool_]] = {}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns).astype(bool)
    for item, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        uid = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        masks[uid] = masks.get(uid, False) | frame
    return masks


def _centre_lps(image: Dataset, mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """Centre of mass in LPS mm of a (row, column) mask on a CT slice."""
    row, column = (float(index.mean()) for index in np.nonzero(mask))
    to_lps = hd.spatial.ImageToReferenceTransformer.for_image(image)
    return tuple(to_lps(np.array([[column + 0.5, row + 0.5]]))[0])


def _farthest_mm(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Hausdorff distance of two sets of points, each (point, 3)."""
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))


def _contours(report: Dataset) -> list[tuple[str, NDArray[np.float64], float]]:
    """The contours of an SR that stand beside a volume.

    Each as the SOP Instance UID of its image, its points (point, 2) as column and row from the corner of the image,
    and the volume in mL.
    """
    groups = [list(_content(item)) for item in _content(report) if _concept(item) == "125007"]  # Measurement Group
    found = []
    for group in groups:
        volumes = [item.MeasuredValueSequence[0].NumericValue for item in group if _concept(item) == "118565006"]
        for contour in (item for item in group if item.ValueType == "SCOORD"):
            points = np.array(contour.GraphicData, float).reshape(-1, 2)
            found += [(_referenced_instance(contour), points, float(volume)) for volume in volumes]
    return found


def _content(item: Dataset) -> Iterator[Dataset]:
    """Every content item below this one."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _content(child)


def _concept(item: Dataset) -> str | None:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else None


def _referenced_instance(contour: Dataset) -> str:
    return str(contour.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
