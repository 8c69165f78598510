"""The predicted follow-up as a series: one Secondary Capture or CT instance a slice, in HU, on the source geometry.

Secondary Capture carries the plane and rescale attributes as a standard extended SOP class, so that volume viewers
place it; every instance says that it is synthetic, and none has an acquisition time.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from ichnode.imaging.volume import AcquisitionGrid, FloatArray
from ichnode.results.concepts import IMAGE_PREDICTION, SOURCE_IMAGE, code_item, own_scheme_item
from ichnode.results.provenance import MANUFACTURER, SOFTWARE_VERSION, Provenance, Result, Role, file_meta, finish
from ichnode.results.source_headers import is_enhanced

DERIVATION = "AI-predicted 24 h follow-up CT. SYNTHETIC IMAGE - RESEARCH USE ONLY - NOT ACQUIRED"
WARNING = "AI PREDICTION - NOT ACQUIRED"
_LETTER_HU = 3000  # white in every window; they name nobody, so BurnedInAnnotation stays NO (C.7.6.1)
_LETTER = 0.04  # height, of the width of the image
FOLLOWUP_SOP_CLASSES = {"sc": SecondaryCaptureImageStorage, "ct": CTImageStorage}
PLANE_KEYWORDS = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImageOrientationPatient",
    "PatientOrientation",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_PIXEL_KEYWORDS = ("WindowCenter", "WindowWidth", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue")
_CT_KEYWORDS = ("KVP", "PatientPosition", "GantryDetectorTilt", "ConvolutionKernel", "ReconstructionDiameter")


def compose_predicted_series(
    hu: FloatArray,
    *,
    sources: tuple[Dataset, ...],
    headers: tuple[Dataset, ...],
    grid: AcquisitionGrid,
    provenance: Provenance,
) -> tuple[Result, ...]:
    """`hu` (slice, row, column) as one instance a slice, in the order of `grid`.

    Pixels are stored with the rescale slope, intercept and bits of the source instance, so HU of the source come back
    exactly; from Enhanced CT, as signed 16 bit HU. Where the profile wants a warning, its letters replace HU.
    """
    if provenance.profile.followup_warning:
        hu = _warned(hu)
    of_instance = {str(source.SOPInstanceUID): source for source in sources}
    common = finish(_common(provenance.profile.followup_sop), Role.PREDICTED_SERIES, provenance).dataset
    if common.SOPClassUID == SecondaryCaptureImageStorage:
        common.DateOfSecondaryCapture, common.TimeOfSecondaryCapture = common.SeriesDate, common.SeriesTime
    del common.SOPInstanceUID, common.InstanceNumber  # elements are shared from here on, so none may change
    results = []
    for index, header in enumerate(headers):
        dataset = Dataset()
        dataset.update(common)
        _place(dataset, header, index, grid, provenance)
        _fill(dataset, of_instance[header.SOPInstanceUID], hu[index])
        dataset.file_meta = file_meta(dataset)
        results.append(Result(role=Role.PREDICTED_SERIES, dataset=dataset))
    return tuple(results)


def _common(followup_sop: str) -> Dataset:
    """What all instances of the series share."""
    dataset = Dataset()
    dataset.SOPClassUID = FOLLOWUP_SOP_CLASSES[followup_sop]
    dataset.Modality = "CT"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "AI_PREDICTED"]
    dataset.SyntheticData = "YES"
    dataset.BodyPartExamined = "HEAD"
    dataset.DerivationDescription, dataset.ImageComments = DERIVATION, DERIVATION
    dataset.DerivationCodeSequence = [code_item(IMAGE_PREDICTION)]
    dataset.CodingSchemeIdentificationSequence = [own_scheme_item()]
    dataset.BurnedInAnnotation, dataset.RecognizableVisualFeatures = "NO", "YES"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PresentationLUTShape = "IDENTITY"
    if dataset.SOPClassUID == SecondaryCaptureImageStorage:
        dataset.ConversionType = "WSD"
        dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
        dataset.SecondaryCaptureDeviceManufacturerModelName = MANUFACTURER
        dataset.SecondaryCaptureDeviceSoftwareVersions = SOFTWARE_VERSION
    else:
        dataset.AcquisitionNumber, dataset.KVP = None, None
    return dataset


def _place(dataset: Dataset, header: Dataset, index: int, grid: AcquisitionGrid, provenance: Provenance) -> None:
    """Identity, plane and source of slice `index`."""
    dataset.SOPInstanceUID = provenance.instance_uid(Role.PREDICTED_SERIES, index)
    dataset.InstanceNumber = index + 1
    for keyword in PLANE_KEYWORDS:
        if keyword in header:
            dataset.add(header[keyword])
    source, instance, series = Dataset(), Dataset(), Dataset()
    for item in (source, instance):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        if is_enhanced(header):
            item.ReferencedFrameNumber = grid.frame_numbers[index]
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = header.SeriesInstanceUID, [instance]
    dataset.ReferencedSeriesSequence = [series]
    source.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    source.SpatialLocationsPreserved = "YES"
    dataset.SourceImageSequence = [source]


def _warned(hu: FloatArray) -> FloatArray:
    """HU (slice, row, column) with the warning written at the upper edge of every slice."""
    letters = Image.new("1", (hu.shape[2], hu.shape[1]))
    font = ImageFont.load_default(max(8, _LETTER * letters.width))
    ImageDraw.Draw(letters).text((letters.width / 2, 2), WARNING, fill=1, font=font, anchor="mt")
    return np.where(np.asarray(letters), np.float32(_LETTER_HU), hu)


def _fill(dataset: Dataset, source: Dataset, hu: FloatArray) -> None:
    """Pixels and how to read them."""
    dataset.Rows, dataset.Columns = hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.WindowCenter, dataset.WindowWidth = 40, 80
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "HU"
    if not is_enhanced(source):
        keywords = (
            _PIXEL_KEYWORDS if dataset.SOPClassUID == SecondaryCaptureImageStorage else _PIXEL_KEYWORDS + _CT_KEYWORDS
        )
        for keyword in keywords:
            if source.get(keyword) is not None:
                dataset[keyword] = source[keyword]
        if "RescaleSlope" in source:
            dataset.RescaleIntercept, dataset.RescaleSlope = source.RescaleIntercept, source.RescaleSlope
    dataset.PixelData = _stored(hu, dataset).tobytes()


def _stored(hu: FloatArray, dataset: Dataset) -> NDArray[np.int16] | NDArray[np.uint16]:
    """HU as stored values, within what the bits stored can hold."""
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = np.round((hu - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope))
    return np.clip(stored, low, high).astype("<i2" if signed else "<u2")
