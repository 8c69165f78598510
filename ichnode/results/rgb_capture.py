"""RGB Secondary Capture: a picture with burned-in text and the warning, for viewers that show nothing else."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from ichnode.results.provenance import MANUFACTURER, RESEARCH_BANNER, SOFTWARE_VERSION

Pixels = NDArray[np.uint8]


def rgb_capture(pixels: Pixels) -> Dataset:
    """`pixels` (row, column, RGB) as an image without identity or place."""
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BodyPartExamined = "HEAD"
    dataset.ImageComments = RESEARCH_BANNER
    dataset.BurnedInAnnotation, dataset.RecognizableVisualFeatures = "YES", "YES"
    dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    dataset.SecondaryCaptureDeviceManufacturerModelName = MANUFACTURER
    dataset.SecondaryCaptureDeviceSoftwareVersions = SOFTWARE_VERSION
    dataset.PatientOrientation = None
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    return dataset
