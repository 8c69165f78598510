"""A made-up head CT with a hematoma of known volume, as DICOM: for tests and benchmarks.

The head is a set of ellipsoids in LPS millimetres around the middle of the brain: scalp, skull, a rim of CSF, cortex,
white matter, ventricles and, in the left putamen, an ellipsoid hematoma. Slices are cut wherever the given
`Geometry` puts them, so tilted, irregular, thin and reversed series show the same head. It is a test object, not a
simulated patient.
"""

from dataclasses import dataclass, replace
from math import cos, pi, radians, sin

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ichnode.domain.identity import derived_uid

Vector = tuple[float, float, float]

# (HU, centre, semi-axes) painted in this order; brain shapes scale together, so the skull stays closed
_TISSUES: tuple[tuple[float, Vector, Vector], ...] = (
    (30.0, (0, 0, 0), (78, 98, 84)),  # scalp
    (-80.0, (0, 0, 0), (76, 96, 82)),  # subcutaneous fat
    (950.0, (0, 0, 0), (73, 93, 79)),  # skull
    (8.0, (0, 0, 0), (66, 86, 72)),  # subarachnoid CSF
    (37.0, (0, 0, 0), (63.5, 83.5, 69.5)),  # cortex
    (29.0, (0, 0, 0), (58, 78, 64)),  # white matter
    (36.0, (25, 0, 4), (11, 20, 14)),  # left basal ganglia
    (36.0, (-25, 0, 4), (11, 20, 14)),  # right basal ganglia
    (6.0, (9, 2, 12), (5, 26, 9)),  # left lateral ventricle
    (6.0, (-9, 2, 12), (5, 26, 9)),  # right lateral ventricle
)
HEMATOMA_HU = 64.0
_HEMATOMA_CENTRE: Vector = (30, 0, 4)  # LPS: +x is the patient's left
_HEMATOMA_SHAPE: Vector = (0.8, 1.3, 1.0)  # proportions of the semi-axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a series cuts the head."""

    offsets_mm: tuple[float, ...]  # of the slices along the table (z), in order of acquisition
    thickness_mm: tuple[float, ...]  # one a slice
    tilt_deg: float = 0.0  # gantry tilt about the x axis
    rows: int = 256
    columns: int = 256
    field_of_view_mm: float = 230.0


def _even(count: int, gap_mm: float) -> Geometry:
    start = -(count - 1) * gap_mm / 2
    return Geometry(offsets_mm=tuple(start + i * gap_mm for i in range(count)), thickness_mm=(gap_mm,) * count)


REGULAR = _even(32, 5.0)
THIN = _even(160, 1.0)
TILTED = replace(REGULAR, tilt_deg=18.5)
REVERSED = replace(REGULAR, offsets_mm=REGULAR.offsets_mm[::-1])
# the pattern of many sequential scans: thin through the skull base, one overlap, thick above
IRREGULAR = Geometry(
    offsets_mm=(*(-76.0 + 4 * i for i in range(16)), *(-14.92 + 7 * i for i in range(14))),
    thickness_mm=(4.0,) * 16 + (7.0,) * 14,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phantom:
    """A series, and what is true about it."""

    datasets: tuple[Dataset, ...]  # in order of acquisition
    hematoma: NDArray[np.bool_]  # (slice, row, column) in order of acquisition: voxel centres inside the hematoma
    hematoma_ml: float  # of the ellipsoid itself


def head_ct(
    *, hematoma_ml: float, geometry: Geometry = REGULAR, seed: int = 1, hematoma_hu: float = HEMATOMA_HU
) -> Phantom:
    """A head CT cut by `geometry`, with an ellipsoid hematoma of `hematoma_ml` (0: none). Same seed, same bytes."""
    rng = np.random.default_rng(seed)
    scale = (hematoma_ml * 1000 * 3 / (4 * pi * float(np.prod(_HEMATOMA_SHAPE)))) ** (1 / 3)
    blood = (hematoma_hu, _HEMATOMA_CENTRE, tuple(scale * s for s in _HEMATOMA_SHAPE))
    tissues = (*_TISSUES, blood) if hematoma_ml else _TISSUES
    slices = [_cut(geometry, index, tissues) for index in range(len(geometry.offsets_mm))]
    hu = np.stack([_noisy(hu, rng) for hu, _ in slices])
    hematoma = np.stack([inside for _, inside in slices]) if hematoma_ml else np.zeros(hu.shape, bool)
    datasets = tuple(_instance(geometry, index, hu[index], seed) for index in range(len(hu)))
    return Phantom(datasets=datasets, hematoma=hematoma, hematoma_ml=hematoma_ml)


def _plane(geometry: Geometry, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Position of the first pixel, row direction and column direction of a slice, LPS."""
    tilt = radians(geometry.tilt_deg)
    along_row, along_column = np.array([1.0, 0, 0]), np.array([0.0, cos(tilt), -sin(tilt)])
    spacing = geometry.field_of_view_mm / geometry.columns
    centre = np.array([0.0, 0.0, geometry.offsets_mm[index]])
    corner = (
        centre - along_row * spacing * (geometry.columns - 1) / 2 - along_column * spacing * (geometry.rows - 1) / 2
    )
    return corner, along_row, along_column


def _cut(
    geometry: Geometry, index: int, tissues: tuple[tuple[float, Vector, Vector], ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """HU of one slice averaged over its thickness, and the voxel centres inside the last painted tissue."""
    corner, along_row, along_column = _plane(geometry, index)
    normal = np.cross(along_row, along_column)
    spacing = geometry.field_of_view_mm / geometry.columns
    x = corner[0] + spacing * np.arange(geometry.columns)[None, :]
    down = spacing * np.arange(geometry.rows)[:, None]
    inside = np.zeros((geometry.rows, geometry.columns), bool)
    layers = []
    for depth in (-1 / 3, 0.0, 1 / 3):
        shift = depth * geometry.thickness_mm[index] * normal
        y, z = corner[1] + shift[1] + down * along_column[1], corner[2] + shift[2] + down * along_column[2]
        hu = np.full((geometry.rows, geometry.columns), -1000.0)
        for value, (cx, cy, cz), (ax, ay, az) in tissues:
            within = ((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2 <= 1
            hu[within] = value
        if depth == 0:
            inside = within
        layers.append(hu)
    return np.mean(layers, axis=0), inside


def _noisy(hu: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    """With quantum noise of 3 HU, correlated over neighbouring pixels as a soft kernel leaves it."""
    white = rng.normal(0, 1, hu.shape)
    smooth = white + np.roll(white, 1, 0) + np.roll(white, 1, 1) + np.roll(white, (1, 1), (0, 1))
    return np.round(np.clip(hu + 1.5 * smooth, -1024, 3071)).astype(np.int16)


def _instance(geometry: Geometry, index: int, hu: NDArray[np.int16], seed: int) -> Dataset:
    """One CT Image Storage instance, headers as a scanner writes them."""
    study, spacing = derived_uid("phantom", str(seed)), geometry.field_of_view_mm / geometry.columns
    shape = f"{geometry}"
    corner, along_row, along_column = _plane(geometry, index)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = derived_uid(study, shape, str(index))
    ds.StudyDate, ds.StudyTime = "20260101", "030000"
    ds.SeriesDate, ds.SeriesTime = "20260101", "030100"
    ds.AcquisitionDate, ds.AcquisitionTime = "20260101", "030100"
    ds.ContentDate, ds.ContentTime = "20260101", "030101"
    ds.AccessionNumber = f"PH{seed:06d}"
    ds.Modality = "CT"
    ds.Manufacturer, ds.ManufacturerModelName = "Phantom", "Ellipsoids"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = "HEAD WITHOUT CONTRAST", "BRAIN"
    ds.PatientName, ds.PatientID = "PHANTOM^HEAD", f"PHANTOM-{seed}"
    ds.PatientBirthDate, ds.PatientSex = "19500101", "O"
    ds.BodyPartExamined = "HEAD"
    ds.SliceThickness = geometry.thickness_mm[index]
    ds.KVP, ds.GantryDetectorTilt, ds.ConvolutionKernel = 120, geometry.tilt_deg, "STANDARD"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, derived_uid(study, shape)
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "1", 2, 1, index + 1
    ds.ImagePositionPatient = [f"{v:.6g}" for v in corner]
    ds.ImageOrientationPatient = [f"{v:.10g}" for v in (*along_row, *along_column)]
    ds.FrameOfReferenceUID = derived_uid(study, "frame of reference")
    ds.PositionReferenceIndicator = "OM"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = geometry.rows, geometry.columns
    ds.PixelSpacing = [f"{spacing:.8g}"] * 2
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.WindowCenter, ds.WindowWidth = 40, 80
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
    ds.PixelData = hu.astype("<i2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds
