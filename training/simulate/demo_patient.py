"""Demo patient: makes the simulated head CT that ichnode ships for its demo: DICOM slices and the truth in one zip."""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless

from training.simulate import dicom_study
from training.simulate.acquire import Protocol, SimulatedCT, acquire
from training.simulate.atlas import atlas_of
from training.simulate.cohort import patient_spec
from training.simulate.patient import simulate_head
from training.simulate.styles import TRAINING
from training.simulate.truth import as_json

SEED = 3789  # one putaminal hematoma of about 30 mL
PROTOCOL = Protocol(slice_mm=5.0, pixel_mm=0.9, matrix=256)
_THE_SAME_TIME = (2026, 1, 1, 0, 0, 0)  # of every member: same patient, same bytes


def demo_ct() -> SimulatedCT:
    """The patient's first CT."""
    head = simulate_head(patient_spec(SEED, "iph"), PROTOCOL.grid, atlas_of(TRAINING), TRAINING)
    return acquire(head, PROTOCOL, style=TRAINING.name)


def write_demo_patient(ct: SimulatedCT, file: Path) -> None:
    """NNN.dcm in order of acquisition; truth.json; labels.npy, (slice, row, column) in the same order."""
    datasets = dicom_study.head_ct(ct)
    uids = ct.volume.grid.sop_instance_uids
    order = [uids.index(ds.SOPInstanceUID) for ds in datasets]
    labels = BytesIO()
    np.save(labels, ct.labels[order])
    with zipfile.ZipFile(file, "w") as archive:
        for number, dataset in enumerate(datasets, 1):
            _add(archive, f"{number:03d}.dcm", _compressed(dataset), zipfile.ZIP_STORED)
        _add(archive, "labels.npy", labels.getvalue(), zipfile.ZIP_DEFLATED)
        _add(archive, "truth.json", as_json(ct).encode(), zipfile.ZIP_DEFLATED)


def _compressed(dataset: Dataset) -> bytes:
    dataset.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
    encoded = BytesIO()
    dataset.save_as(encoded, enforce_file_format=True)
    return encoded.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, how: int) -> None:
    archive.writestr(zipfile.ZipInfo(name, _THE_SAME_TIME), content, compress_type=how)
