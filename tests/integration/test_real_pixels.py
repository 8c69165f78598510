"""The HU of real scanners are those that pydicom computes, bit for bit, also when DCMTK or OpenJPEG encoded them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ichnode.imaging.series_gate import acquisition_grid
from ichnode.imaging.series_reader import read_volume
from tests.series_factory import series_of

Encoder = Callable[[Path, Path], object]  # from file, to file


def dcmtk(*command: str) -> Encoder:
    """A DCMTK program with its options; skips where it is not installed."""

    def encode(source: Path, target: Path) -> None:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} (Debian package dcmtk) is not installed")
        subprocess.run([*command, source, target], check=True, capture_output=True)

    return encode


def openjpeg(source: Path, target: Path) -> None:
    dataset = dcmread(source)
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    dataset.save_as(target)


ENCODINGS: dict[UID, Encoder] = {
    ExplicitVRLittleEndian: shutil.copy,
    ImplicitVRLittleEndian: dcmtk("dcmconv", "+ti"),
    ExplicitVRBigEndian: dcmtk("dcmconv", "+tb"),
    DeflatedExplicitVRLittleEndian: dcmtk("dcmconv", "+td"),
    RLELossless: dcmtk("dcmcrle"),
    JPEGLossless: dcmtk("dcmcjpeg", "+el"),
    JPEGLosslessSV1: dcmtk("dcmcjpeg", "+e1"),
    JPEGLSLossless: dcmtk("dcmcjpls"),
    JPEG2000Lossless: openjpeg,
}


@pytest.fixture(
    scope="module",
    params=[("ge_head_nct", 28), ("philips_phantom_study/S2010", 28), ("philips_phantom_study/S2030", 12)],
    ids=["GE head", "Philips brain", "Philips bone"],
)
def files(request: pytest.FixtureRequest, test_data: Path) -> list[Path]:
    """The files of a real series, or of its middle slices, in the order of the volume."""
    folder, count = request.param
    series = series_of(sorted((test_data / folder).iterdir()))
    path_of = {instance.sop_instance_uid: Path(instance.file) for instance in series.instances}
    uids = acquisition_grid(series).sop_instance_uids
    first = (len(uids) - count) // 2
    return [path_of[uid] for uid in uids[first : first + count]]


def pydicom_hu(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """HU as float64, and where they are declared padding."""
    stored = dataset.pixel_array
    hu = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return hu, stored == dataset.get("PixelPaddingValue")


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda uid: uid.name)
def test_hu_are_those_of_pydicom_bit_for_bit(syntax: UID, files: list[Path], tmp_path: Path) -> None:
    encoded = [tmp_path / f"{number:03d}" for number in range(len(files))]
    for source, target in zip(files, encoded, strict=True):
        ENCODINGS[syntax](source, target)
    series = series_of(encoded)
    assert series.instances[0].transfer_syntax_uid == syntax

    volume = read_volume(series)

    for hu, path in zip(volume.hu, files, strict=True):
        expected, padding = pydicom_hu(dcmread(path))
        np.testing.assert_array_equal(hu, np.where(padding, -1024, expected))
