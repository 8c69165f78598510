"""DICOM study: the one writer of simulated CT as DICOM, in the manner of several makers.

The daemon's default rules take it like a patient's CT, so Synthetic Data (0008,001C), which they refuse as somebody's
prediction, is not set. What says that this is no patient: Quality Control Subject (0010,0200) and Quality Control Image
(0028,0300) are YES, and the patient's name and ID, the study description, the manufacturer and the comments say
SIMULATED.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from ichnode.domain.identity import derived_uid
from ichnode.imaging.volume import AcquisitionGrid
from training.simulate.acquire import GRAFTED, SimulatedCT
from training.simulate.draw import Draw
from training.simulate.makers import MAKERS, Maker

SIMULATED = "SIMULATED PATIENT - RESEARCH USE ONLY"
_FIRST_DAY = datetime(2020, 1, 1)
_DAYS = 1800


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """What all instances of one study share, drawn from the patient's seed."""

    ct: SimulatedCT
    uid: str
    maker: Maker
    draw: Draw
    began: datetime

    @property
    def origin(self) -> str:
        """What of the image is real."""
        if self.ct.style == GRAFTED:
            return "hemorrhage made by the simulator of ichnode in the CT of a head without any"
        return "made by the simulator of ichnode; nobody was scanned"

    @property
    def tube(self) -> tuple[int, int, int]:
        """Kilovolts, milliamperes, milliseconds."""
        ma = 10 * round(self.draw.uniform("tube current", 15, 38))
        return self.draw.choice("kvp", self.maker.kvp), ma, self.draw.choice("rotation", (1000, 1500, 2000))


def study_of(ct: SimulatedCT) -> Study:
    """The study that a CT is written as; follow-up on the scanner of the first CT more often than not."""
    draw = Draw(seed=ct.spec.seed)
    other = ct.followup and draw.chance("another scanner", 0.4)
    days, hour = int(draw.uniform("study day", 0, _DAYS)), draw.uniform("study hour", 0, 24)
    began = _FIRST_DAY + timedelta(days=days, hours=hour + (ct.spec.followup_h if ct.followup else 0))
    return Study(
        ct=ct,
        uid=derived_uid("simulated study", *ct.volume.grid.sop_instance_uids),
        maker=draw.choice("other maker" if other else "maker", MAKERS),
        draw=draw,
        began=began.replace(microsecond=0),
    )


def head_ct(ct: SimulatedCT) -> tuple[Dataset, ...]:
    """One CT Image Storage instance for each slice, by instance number. Padding of a maker that has none is air."""
    study = study_of(ct)
    stored = _stored(ct.volume.hu, study.maker)
    count = len(stored)
    order = range(count - 1, -1, -1) if study.maker.cranial_first else range(count)
    return tuple(_slice(study, index, number, stored[index]) for number, index in enumerate(order, 1))


def write(datasets: tuple[Dataset, ...], folder: Path) -> None:
    """Each instance as IM followed by its number in its series, in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in datasets:
        name = f"IM{dataset.SeriesNumber:04d}{dataset.InstanceNumber:04d}.dcm"
        dataset.save_as(folder / name, enforce_file_format=True)


def instance(study: Study, sop_class_uid: UID, series: str, number: int) -> Dataset:
    """A data set with patient, study, equipment and the series of that name and number; without image."""
    ds, spec = Dataset(), study.ct.spec
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, UID(derived_uid(study.uid, series))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.uid, derived_uid(study.uid, "series", series)
    for name in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{name}Date", f"{study.began:%Y%m%d}")
        setattr(ds, f"{name}Time", f"{study.began:%H%M%S}")
    ds.AccessionNumber = f"SIM{spec.seed % 10**10}{'F' if study.ct.followup else ''}"
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "1", number, 1, 1
    ds.Modality, ds.BodyPartExamined, ds.PatientPosition = "CT", "HEAD", "HFS"
    ds.Manufacturer = f"SIMULATED ({study.maker.name})"
    ds.ManufacturerModelName = study.draw.choice("model", study.maker.models)
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = SIMULATED, series
    ds.PatientName, ds.PatientID = f"SIMULATED^{spec.seed}", f"SIM-{spec.seed}"
    ds.IssuerOfPatientID = "ICHNODE SIMULATOR"
    born = study.began - timedelta(days=spec.age * 365.25)
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = f"{born:%Y%m%d}", spec.sex, f"{int(spec.age):03d}Y"
    ds.QualityControlSubject, ds.QualityControlImage = "YES", "YES"
    ds.PatientComments = ds.ImageComments = f"{SIMULATED}: {study.origin}"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def put_ct_pixels(ds: Dataset, study: Study, stored: NDArray[np.int32]) -> None:
    """Stored values of (row, column), as the maker encodes them, and what a CT image says of its acquisition."""
    maker, (kv, ma, ms) = study.maker, study.tube
    ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime, ds.Exposure = kv, ma, ms, ma * ms // 1000
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = derived_uid(study.uid, "frame of reference"), "OM"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, maker.bits_stored, maker.bits_stored - 1
    ds.PixelRepresentation = int(maker.signed)
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = maker.intercept, 1, "HU"
    if maker.padding is not None:
        ds.PixelPaddingValue = maker.padding
    centres, widths = ([window[part] for window in maker.windows] for part in (0, 1))
    ds.WindowCenter, ds.WindowWidth = (centres, widths) if len(centres) > 1 else (centres[0], widths[0])
    if len(centres) > 1:
        ds.WindowCenterWidthExplanation = [f"WINDOW{n}" for n in range(1, len(centres) + 1)]
    ds.PixelData = stored.astype("<i2" if maker.signed else "<u2").tobytes()


def _slice(study: Study, index: int, number: int, stored: NDArray[np.int32]) -> Dataset:
    grid, maker = study.ct.volume.grid, study.maker
    thickness, kernel = float(grid.slice_thickness_mm[index]), study.draw.choice("kernel", maker.kernels)
    description = study.draw.choice("description", maker.descriptions)
    ds = instance(study, CTImageStorage, description.format(slice_mm=f"{thickness:.1f}", kernel=kernel), 2)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(grid.sop_instance_uids[index])
    ds.InstanceNumber, ds.ImageType = number, list(maker.image_type)
    ds.SliceThickness, ds.GantryDetectorTilt = f"{thickness:g}", f"{_tilt_deg(grid):.1f}"
    ds.ConvolutionKernel = kernel
    ds.ImagePositionPatient = [f"{v:.9g}" for v in grid.positions_lps[index]]
    ds.ImageOrientationPatient = [f"{v:.10g}" for v in (*grid.row_direction_lps, *grid.column_direction_lps)]
    ds.SliceLocation = f"{grid.positions_lps[index, 2]:.6g}"
    ds.PixelSpacing = [f"{v:.8g}" for v in grid.pixel_spacing_mm]
    ds.ReconstructionDiameter = f"{grid.pixel_spacing_mm[1] * grid.columns:.6g}"
    put_ct_pixels(ds, study, stored)
    return ds


def _tilt_deg(grid: AcquisitionGrid) -> float:
    """Of the gantry about the x axis: 0 for axial slices."""
    return float(-np.degrees(np.arcsin(grid.column_direction_lps[2]))) + 0.0


def _stored(hu: NDArray[np.float32], maker: Maker) -> NDArray[np.int32]:
    """HU below -1024 is outside the field of view: padding, or air of -1024 HU."""
    stored = np.maximum(np.rint(hu), -1024).astype(np.int32) - maker.intercept
    return stored if maker.padding is None else np.where(hu < -1024, maker.padding, stored)
