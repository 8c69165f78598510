"""Results read back from the objects that were sent: which pixels a segment has on which source slice, and the like.

A result refers to the source slice that it lies on (PS3.3 C.7.6.16.2.6 and C.7.6.1); that reference, not the order of
frames or files, says where it belongs.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ichnode.imaging.data_set import PYDICOM_ERRORS
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask

Place = tuple[str, int]  # SOP Instance UID and frame number (from 1) of a source slice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadSegment:
    """One segment of a Segmentation object: a bit a pixel, as stored."""

    number: int  # Segment Number
    label: str
    shape: tuple[int, int]  # row, column
    frames: Mapping[int, int]  # index of the source slice -> frame, from 0
    pixels: NDArray[np.uint8]  # Pixel Data of the whole object, shared by its segments

    def mask(self, index: int) -> Mask:
        """(row, column) on a source slice; empty where the segment has no frame."""
        frame = self.frames.get(index)
        if frame is None:
            return np.zeros(self.shape, bool)
        count = self.shape[0] * self.shape[1]
        first = frame * count
        bits = np.unpackbits(self.pixels[first // 8 : (first + count + 7) // 8], bitorder="little")
        return bits[first % 8 : first % 8 + count].reshape(self.shape).astype(bool)

    def area(self, index: int) -> int:
        """How many pixels it has on a source slice."""
        return int(np.count_nonzero(self.mask(index)))


def any_header(files: Iterable[str]) -> Dataset | None:
    """The first of the result objects that can be read and names its study, without its pixels; None for none."""
    for file in files:
        with suppress(OSError, InvalidDicomError, *PYDICOM_ERRORS):
            header = dcmread(file, stop_before_pixels=True)
            if header.get("StudyInstanceUID"):
                return header
    return None


def places(grid: AcquisitionGrid) -> dict[Place, int]:
    """The index of each source slice."""
    return {place: index for index, place in enumerate(zip(grid.sop_instance_uids, grid.frame_numbers, strict=True))}


def read_segments(file: Path, index_of: Mapping[Place, int]) -> list[ReadSegment]:
    """The segments of a binary Segmentation; frames that refer to no slice of `index_of` are left out.

    Raises OSError, and what pydicom raises over a damaged file.
    """
    dataset = dcmread(file)
    frames: dict[int, dict[int, int]] = {int(item.SegmentNumber): {} for item in dataset.SegmentSequence}
    for frame, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        index = _index(groups.DerivationImageSequence[0], index_of)
        if index is not None:
            frames[number][index] = frame
    pixels = np.frombuffer(dataset.PixelData, np.uint8)
    return [
        ReadSegment(
            number=int(item.SegmentNumber),
            label=str(item.SegmentLabel),
            shape=(int(dataset.Rows), int(dataset.Columns)),
            frames=frames[int(item.SegmentNumber)],
            pixels=pixels,
        )
        for item in dataset.SegmentSequence
    ]


def index_of_picture(file: Path, index_of: Mapping[Place, int]) -> int | None:
    """The source slice that a predicted or saliency picture lies on; None where it refers to none of `index_of`."""
    return _index(dcmread(file, specific_tags=["SourceImageSequence"], stop_before_pixels=True), index_of)


def predicted_hu(file: Path) -> FloatArray:
    """(row, column) of one picture of the predicted series."""
    dataset = dcmread(file)
    hu = dataset.pixel_array * np.float32(dataset.RescaleSlope) + np.float32(dataset.RescaleIntercept)
    return np.asarray(hu, np.float32)


def picture_rgb(file: Path) -> NDArray[np.uint8]:
    """(row, column, RGB) of a saliency picture or the summary page."""
    return np.asarray(dcmread(file).pixel_array, np.uint8)


def _index(referring: Dataset, index_of: Mapping[Place, int]) -> int | None:
    source = referring.SourceImageSequence[0]
    return index_of.get((str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber", 1))))
