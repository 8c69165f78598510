"""What results take over from the source: patient and study as received, and clean headers for the writing library.

Received headers lack Type 2 attributes, hold values that break their VR, or mix character sets. Patient and study are
copied value for value where they exist; geometry is taken from the acquisition grid, which the series gate has checked.
"""

from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage
from pydicom.valuerep import DSfloat

from ichnode.imaging.volume import AcquisitionGrid

_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))  # towards +x, -x; +y, -y; +z, -z of LPS
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_COPIED = (
    *_TYPE_2,
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "StudyInstanceUID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
)
_TAKEN_OVER = (
    "PositionReferenceIndicator",
    "FrameOfReferenceUID",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def patient_and_study(source: Dataset) -> Dataset:
    """The patient and study attributes of `source`, Type 2 ones empty where absent.

    With code extensions (several character sets), text is decoded and the character set is ISO_IR 192.
    """
    charset = source.get("SpecificCharacterSet")
    if charset and not isinstance(charset, str):
        source = deepcopy(source)
        source.decode()
        source.SpecificCharacterSet = "ISO_IR 192"
    copied = Dataset()
    for keyword in _COPIED:
        if keyword in source:
            copied.add(source[keyword])
        elif keyword in _TYPE_2:
            setattr(copied, keyword, None)
    _mend_deidentification(copied)
    return copied


def _mend_deidentification(copied: Dataset) -> None:
    """De-identification Method must have a value when the identity is removed (Type 1C), and be absent when not."""
    if copied.get("DeidentificationMethod") or copied.get("DeidentificationMethodCodeSequence"):
        return
    if copied.get("PatientIdentityRemoved") == "YES":
        copied.add_new("DeidentificationMethod", "LO", "Not stated in the source")  # the element is the source's own
    elif "DeidentificationMethod" in copied:
        del copied.DeidentificationMethod


def slice_headers(sources: tuple[Dataset, ...], grid: AcquisitionGrid) -> tuple[Dataset, ...]:
    """One single-frame header a slice of `grid`: what highdicom reads of a source image, without patient and study.

    An Enhanced CT instance gives one header a frame, all with its own SOP Instance UID.
    """
    of_instance = {str(source.SOPInstanceUID): source for source in sources}
    headers = []
    for index, sop_instance_uid in enumerate(grid.sop_instance_uids):
        source = of_instance[sop_instance_uid]
        header = _common_header(source, grid)
        header.InstanceNumber = grid.frame_numbers[index] if is_enhanced(source) else source.get("InstanceNumber")
        header.ImageOrientationPatient = decimals(*grid.row_direction_lps, *grid.column_direction_lps)
        header.PatientOrientation = [
            direction_letter(grid.row_direction_lps),
            direction_letter(grid.column_direction_lps),
        ]
        header.ImagePositionPatient = decimals(*grid.positions_lps[index])
        header.PixelSpacing = decimals(*grid.pixel_spacing_mm)
        header.SliceThickness = decimals(_thickness(grid, index))[0]
        spacing = _even_spacing(grid)
        if spacing is not None:
            header.SpacingBetweenSlices = decimals(spacing)[0]
        headers.append(header)
    return tuple(headers)


def enhanced_header(source: Dataset, grid: AcquisitionGrid) -> Dataset:
    """An Enhanced CT header with one shared orientation and pixel measures, and a position a frame, in frame order."""
    header, shared, orientation, measures = _common_header(source, grid), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = decimals(*grid.row_direction_lps, *grid.column_direction_lps)
    measures.PixelSpacing, measures.SliceThickness = decimals(*grid.pixel_spacing_mm), decimals(_thickness(grid, 0))[0]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    frames = []
    for index in np.argsort(grid.frame_numbers):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = decimals(*grid.positions_lps[index])
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    header.NumberOfFrames = len(frames)
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], frames
    return header


def is_enhanced(header: Dataset) -> bool:
    """Whether one instance holds all slices."""
    return bool(header.SOPClassUID == EnhancedCTImageStorage)


def direction_letter(direction_lps: NDArray[np.float64]) -> str:
    """The letter of the patient axis that a direction mostly follows (PS3.3 C.7.6.1.1.1)."""
    axis = int(np.argmax(np.abs(direction_lps)))
    return _LETTERS[axis][0 if direction_lps[axis] > 0 else 1]


def decimals(*values: float) -> list[DSfloat]:
    """Numbers as DS, at most 16 characters each (PS3.5 6.2)."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _common_header(source: Dataset, grid: AcquisitionGrid) -> Dataset:
    header = Dataset()
    for keyword in _TYPE_2:
        setattr(header, keyword, "")
    header.SOPClassUID, header.SOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID = source.StudyInstanceUID, source.SeriesInstanceUID
    header.Modality = "CT"
    header.Rows, header.Columns = grid.rows, grid.columns
    for keyword in _TAKEN_OVER:
        if source.get(keyword):
            header.add(source[keyword])
    if "FrameOfReferenceUID" in header and "PositionReferenceIndicator" not in header:
        header.PositionReferenceIndicator = ""
    return header


def _thickness(grid: AcquisitionGrid, index: int) -> float:
    """Nominal slice thickness, or how far the slice reaches where the source states none."""
    nominal = float(grid.slice_thickness_mm[index])
    return nominal if nominal > 0 else float(grid.slice_extents_mm[index])


def _even_spacing(grid: AcquisitionGrid) -> float | None:
    """Distance between neighbouring slices where it is the same everywhere, to 1 %."""
    gaps = np.diff(grid.offsets_mm)
    if len(gaps) == 0 or np.ptp(gaps) > 0.01 * gaps.mean():
        return None
    return float(gaps.mean())
