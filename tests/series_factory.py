"""Series for tests: the phantom's datasets altered, encoded and stored in a folder, as a sender might deliver them."""

import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gdcm
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ichnode.domain.study import Series
from ichnode.errors import RefusedSeries
from ichnode.imaging.header import instance_from_file
from ichnode.phantom import REGULAR, Geometry, head_ct

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
COMPRESSED = (RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
_GDCM_SYNTAX: dict[str, int] = {
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}

Datasets = list[Dataset]


def small(geometry: Geometry) -> Geometry:
    """The same slices with few pixels, for speed."""
    return replace(geometry, rows=64, columns=64)


def phantom_datasets(geometry: Geometry = REGULAR, *, hematoma_ml: float = 30.0) -> Datasets:
    return list(head_ct(hematoma_ml=hematoma_ml, geometry=small(geometry)).datasets)


def altered(dataset: Dataset, **values: Any) -> Dataset:
    """A copy with other values; None deletes the element."""
    result = Dataset()
    result.update(dataset)
    for keyword, value in values.items():
        if keyword in result:
            delattr(result, keyword)  # the element is shared with `dataset`, and would change there too
        if value is not None:
            setattr(result, keyword, value)
    return result


def alter(index: int | None = None, **values: Any) -> Callable[[Datasets], Datasets]:
    """A mutation of a series: other values in slice `index`, or in all slices."""

    def mutate(datasets: Datasets) -> Datasets:
        return [altered(ds, **values) if index in (None, at) else ds for at, ds in enumerate(datasets)]

    return mutate


def moved(index: int, by_mm: Sequence[float]) -> Callable[[Datasets], Datasets]:
    """A mutation of a series: slice `index` lies elsewhere."""

    def mutate(datasets: Datasets) -> Datasets:
        position = np.array(datasets[index].ImagePositionPatient, float) + by_mm
        return alter(index, ImagePositionPatient=[f"{v:.6g}" for v in position])(datasets)

    return mutate


def without(*indices: int) -> Callable[[Datasets], Datasets]:
    """A mutation of a series: some slices lack."""
    return lambda datasets: [ds for at, ds in enumerate(datasets) if at not in indices]


def stored_values(dataset: Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns)


def stored_hu(datasets: Sequence[Dataset]) -> np.ndarray:
    """(slice, row, column): stored values of the phantom are HU."""
    return np.stack([stored_values(ds) for ds in datasets]).astype(np.float32)


def with_stored_values(dataset: Dataset, values: np.ndarray, **attributes: Any) -> Dataset:
    return altered(dataset, PixelData=values.astype("<u2").tobytes(), **attributes)


def encoded(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """The data set alone, as a C-STORE carries it. For a compressed syntax `dataset` must be compressed already."""
    uid = UID(transfer_syntax_uid)
    if uid == ExplicitVRBigEndian and "PixelData" in dataset:
        dataset = altered(dataset, PixelData=np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes())
    buffer = BytesIO()
    out = DicomIO(buffer)
    out.is_implicit_VR, out.is_little_endian = uid.is_implicit_VR, uid.is_little_endian
    write_dataset(out, dataset)
    content = buffer.getvalue()
    if uid == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(content) + deflater.flush()
    return content


def part10(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """A DICOM file of `dataset`, compressed where `transfer_syntax_uid` says so."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    if transfer_syntax_uid in _GDCM_SYNTAX:
        dataset = _compressed_by_gdcm(dataset, _GDCM_SYNTAX[transfer_syntax_uid])
    elif transfer_syntax_uid in COMPRESSED:
        dataset = _compressed_by_pydicom(dataset, transfer_syntax_uid)
    buffer = BytesIO()
    write_file_meta_info(DicomIO(buffer), meta, enforce_standard=True)
    return bytes(128) + b"DICM" + buffer.getvalue() + encoded(dataset, transfer_syntax_uid)


def _compressed_by_pydicom(dataset: Dataset, transfer_syntax_uid: str) -> Dataset:
    compressed = deepcopy(dataset)
    compressed.file_meta = FileMetaDataset()
    compressed.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    compressed.compress(UID(transfer_syntax_uid), generate_instance_uid=False)
    return compressed


def _compressed_by_gdcm(dataset: Dataset, syntax: int) -> Dataset:
    """Only its pixel data: gdcm writes the functional groups of Enhanced CT anew, evenly spaced."""
    with TemporaryDirectory() as folder:
        plain, result = Path(folder) / "plain", Path(folder) / "result"
        plain.write_bytes(part10(dataset))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(result))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        compressed = altered(dataset, PixelData=dcmread(result).PixelData)
    compressed["PixelData"].VR = "OB"
    compressed["PixelData"].is_undefined_length = True
    return compressed


def stored_series(
    datasets: Sequence[Dataset], folder: Path, transfer_syntax_uid: str = ExplicitVRLittleEndian
) -> Series:
    """`datasets` written into `folder` and scanned; what they hold is not judged."""
    for number, dataset in enumerate(datasets):
        (folder / f"{number:04d}").write_bytes(part10(dataset, transfer_syntax_uid))
    return series_of([folder / f"{number:04d}" for number in range(len(datasets))])


def series_of(paths: Sequence[Path]) -> Series:
    """The files as one series, in this order; what they hold is not judged."""
    instances = tuple(map(instance_from_file, paths))
    return Series(
        series_instance_uid=instances[0].series_instance_uid,
        study_instance_uid=instances[0].study_instance_uid,
        instances=instances,
    )


def refusal_of(read: Callable[[Series], object], series: Series) -> RefusedSeries:
    """How `read` refuses `series`."""
    with pytest.raises(RefusedSeries) as refusal:
        read(series)
    return refusal.value


def enhanced_ct(datasets: Sequence[Dataset]) -> Dataset:
    """The slices as the frames of one Enhanced CT instance; what is one for all lies in the shared groups."""
    first = datasets[0]
    per_slice = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    rescale = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ConvolutionKernel")
    result = altered(first, **dict.fromkeys(per_slice + rescale))
    result = altered(
        result,
        SOPClassUID=EnhancedCTImageStorage,
        SOPInstanceUID=f"{first.SOPInstanceUID[:-2]}9",
        NumberOfFrames=len(datasets),
        PixelData=b"".join(ds.PixelData for ds in datasets),
    )
    shared = Dataset()
    shared.PlaneOrientationSequence = [_picked(first, "ImageOrientationPatient")]
    shared.PixelValueTransformationSequence = [_picked(first, "RescaleSlope", "RescaleIntercept", "RescaleType")]
    shared.CTReconstructionSequence = [_picked(first, "ConvolutionKernel")]
    result.SharedFunctionalGroupsSequence = [shared]
    result.PerFrameFunctionalGroupsSequence = [_frame_groups(ds) for ds in datasets]
    return result


def _frame_groups(dataset: Dataset) -> Dataset:
    groups = Dataset()
    groups.PixelMeasuresSequence = [_picked(dataset, "PixelSpacing", "SliceThickness")]
    groups.PlanePositionSequence = [_picked(dataset, "ImagePositionPatient")]
    return groups


def _picked(dataset: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, getattr(dataset, keyword))
    return item
