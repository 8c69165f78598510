"""A source series and its results, as viewers find them in a PACS, and what the results say about it."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from ichnode.simulated_patient import simulated_patient
from tests.acceptance.drawn import disc, write_results
from tests.acceptance.peers import run


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInPacs:
    """A source series and what was made of it, by the files that were sent."""

    name: str
    source: Sequence[Path]  # in the order of the slices, from the feet to the head
    results: Sequence[Path]
    dicomweb_url: str  # of the PACS

    @property
    def study_instance_uid(self) -> str:
        return str(dcmread(self.source[0], stop_before_pixels=True).StudyInstanceUID)

    def results_of(self, *modalities: str) -> list[Dataset]:
        """The result instances of these modalities."""
        return [ds for ds in map(dcmread, self.results) if ds.Modality in modalities]

    def image_series(self) -> dict[str, list[Dataset]]:
        """The result instances that are pictures, by their Series Description."""
        series: dict[str, list[Dataset]] = {}
        for ds in self.results_of("CT", "OT"):
            if "PixelData" in ds:
                series.setdefault(ds.SeriesDescription, []).append(ds)
        return series

    def picture_file(self, folder: Path, what: str) -> Path:
        """Where the screenshot of `what` is kept."""
        return folder / f"{self.name} {what.replace(':', '')}.png"


def drawn(source: Sequence[Path], folder: Path) -> list[Path]:
    """The results of a hematoma that is drawn into a real series."""
    return write_results(source, disc(range(10, 17), radius_mm=18), folder)


def analysed(folder: Path) -> tuple[list[Path], list[Path]]:
    """The simulated patient, and the results of the analysis."""
    source = folder / "source"
    source.mkdir()
    datasets = simulated_patient().datasets
    files = [source / f"{number:03}.dcm" for number in range(len(datasets))]
    for file, ds in zip(files, datasets, strict=True):
        ds.save_as(file, enforce_file_format=True)
    out = folder / "results"
    done = run([Path(sys.executable).with_name("ichnode"), "analyze", source, "--out", out], timeout_s=300)
    assert done.returncode == 0, done.stdout
    return files, sorted(out.rglob("*.dcm"))


def in_slice_order(files: Sequence[Path]) -> list[Path]:
    """The files of a series, from the feet to the head."""
    return sorted(files, key=lambda file: dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])


def mask_by_source_instance(seg: Dataset) -> dict[str, NDArray[np.bool_]]:
    """SOP Instance UID of the source -> (row, column) mask of all segments there."""
    masks: dict[str, NDArray[np.bool_]] = {}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns).astype(bool)
    for item, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        uid = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        masks[uid] = masks.get(uid, False) | frame
    return masks


def contours(report: Dataset) -> list[tuple[str, NDArray[np.float64], float]]:
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
