"""The simulated patient that is shipped with ichnode: a head CT with a putaminal hematoma of known extent, as DICOM.

Nobody was scanned: every header says so. It is made by `python -m training demo-patient`.
"""

import json
import zipfile
from importlib.resources import files
from io import BytesIO

import numpy as np
from pydicom import dcmread

from ichnode.phantom import Phantom

_ARCHIVE = files("ichnode") / "simulated_patient.zip"


def simulated_patient() -> Phantom:
    """The series in order of acquisition, Explicit VR Little Endian, and its truth."""
    with _ARCHIVE.open("rb") as file, zipfile.ZipFile(file) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".dcm"))
        datasets = tuple(dcmread(BytesIO(archive.read(name))) for name in names)  # JPEG-LS lossless
        labels = np.load(BytesIO(archive.read("labels.npy")))
        truth = json.loads(archive.read("truth.json"))
    for dataset in datasets:
        dataset.decompress(generate_instance_uid=False)
    return Phantom(datasets=datasets, hematoma=labels > 0, hematoma_ml=truth["ml"]["all"])
