"""The data set of a stored instance, parsed by pydicom: for the little that the scanned header does not hold."""

import struct
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from ichnode.domain.study import Instance
from ichnode.imaging.elements import PIXEL_DATA
from ichnode.imaging.header import inflate
from ichnode.imaging.slices import byte_place

# what pydicom and its decoders raise over content that they cannot make sense of
PYDICOM_ERRORS = (
    RuntimeError,
    ValueError,
    AttributeError,
    LookupError,
    TypeError,
    EOFError,
    struct.error,
    BytesLengthException,
    InvalidDicomError,
)


def read_data_set(instance: Instance, *, stop_at_pixels: bool = False) -> Dataset:
    """The data set of an instance that was scanned before, in whatever file it lies.

    Elements are decoded on access, so PYDICOM_ERRORS may also come later. Raises MalformedDataset and OSError too.
    """
    syntax = instance.transfer_syntax_uid
    with Path(instance.file).open("rb") as file:
        file.seek(byte_place(instance.header, "DataSetOffset"))
        return read_dataset(
            BytesIO(inflate(file.read())) if syntax == DeflatedExplicitVRLittleEndian else file,
            is_implicit_VR=syntax == ImplicitVRLittleEndian,
            is_little_endian=syntax != ExplicitVRBigEndian,
            stop_when=(lambda tag, vr, length: tag >= PIXEL_DATA) if stop_at_pixels else None,
        )
