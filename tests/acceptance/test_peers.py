"""The peers themselves: what the other acceptance tests take for granted about them."""

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from ichnode.phantom import head_ct
from tests.acceptance.dcmtk import dciodvfy, storescp, storescu
from tests.acceptance.orthanc import HARNESS_AE, Orthanc

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a made-up head."""
    folder = tmp_path_factory.mktemp("head")
    return [_written(ds, folder / f"{ds.InstanceNumber:03}.dcm") for ds in head_ct(hematoma_ml=10).datasets]


def test_orthanc_passes_on_what_it_was_sent(slices: list[Path], tmp_path: Path) -> None:
    received = tmp_path / "received"
    with storescp(received, "ARCHIVE") as port, Orthanc(tmp_path / "orthanc", known={"ARCHIVE": port}) as pacs:
        storescu("127.0.0.1", pacs.dicom_port, slices, pacs.ae_title, HARNESS_AE)
        [series] = pacs.get("series")
        pacs.post("modalities/ARCHIVE/store", [series])
    assert _pixels_by_uid(list(received.iterdir())) == _pixels_by_uid(slices)


def test_orthanc_turns_away_a_caller_that_it_does_not_know(slices: list[Path], tmp_path: Path) -> None:
    with (
        Orthanc(tmp_path / "orthanc") as pacs,
        pytest.raises(AssertionError, match="Calling AE Title Not Recognized"),
    ):
        storescu("127.0.0.1", pacs.dicom_port, slices, pacs.ae_title, "STRANGER")


def test_the_validator_names_a_missing_attribute(slices: list[Path], tmp_path: Path) -> None:
    ds = dcmread(slices[0])
    assert dciodvfy(slices[0]) == []
    del ds.KVP
    assert any("KVP" in line for line in dciodvfy(_written(ds, tmp_path / "without.dcm")))


def _written(ds: Dataset, file: Path) -> Path:
    ds.save_as(file, enforce_file_format=True)
    return file


def _pixels_by_uid(files: list[Path]) -> dict[str, bytes]:
    return {ds.SOPInstanceUID: ds.PixelData for ds in map(dcmread, files)}
