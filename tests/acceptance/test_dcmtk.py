"""A real head CT sent by DCMTK's storescu to `ichnode serve`; its results received by DCMTK's storescp and checked."""

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.acceptance.dcmtk import dciodvfy, dsrdump, storescp, storescu
from tests.acceptance.grafted import graft
from tests.acceptance.serve import Serve

pytestmark = pytest.mark.acceptance
SYNTHETIC_DATA = "</(0008,001c)> - Attribute with an even group number is not a recognized"  # dciodvfy is of 2022
PUTAMEN_LPS_MM, AXES_MM = (-28.0, 0.0, 47.0), (14.0, 20.0, 14.0)


@pytest.fixture(scope="module")
def received(test_data, tmp_path_factory):
    """The results for the GE head as it is and for the same head with a drawn hematoma, by SeriesDescription."""
    folder = tmp_path_factory.mktemp("dcmtk")
    plain = sorted((test_data / "ge_head_nct").glob("*.dcm"))
    bleeding = graft(plain, folder / "grafted", centre_lps_mm=PUTAMEN_LPS_MM, axes_mm=AXES_MM)
    with storescp(folder / "received", "STORESCP") as port:
        pacs = {"name": "pacs", "ae_title": "STORESCP", "host": "127.0.0.1", "port": port}
        with Serve(folder, destinations=[pacs], completeness={"quiet_s": 1}) as serve:
            assert serve.start() == f"ichnode ready: ICHNODE@127.0.0.1:{serve.dicom_port}"
            for files in (plain, bleeding):
                storescu("127.0.0.1", serve.dicom_port, files, "ICHNODE", "CT1")
            jobs = serve.wait_for_jobs(2)
            assert serve.stop() == 0
    assert {job["state"] for job in jobs} == {"done"}
    studies = {"plain": dcmread(plain[0]).StudyInstanceUID, "bleeding": dcmread(bleeding[0]).StudyInstanceUID}
    files = [f for f in (folder / "received").iterdir() if f.is_file()]
    return {
        name: {str(dcmread(f).SeriesDescription): f for f in files if dcmread(f).StudyInstanceUID == study}
        for name, study in studies.items()
    }


def test_a_head_without_hemorrhage_gets_a_report_that_says_so_and_a_page(received):
    assert set(received["plain"]) == {"AI RESEARCH: Hematoma measurements", "AI RESEARCH: Summary page"}
    text = dsrdump(received["plain"]["AI RESEARCH: Hematoma measurements"])
    assert "Cerebral hemorrhage" in text
    assert '"No"' in text


def test_a_hematoma_comes_back_as_segmentation_reports_and_page(received):
    assert set(received["bleeding"]) >= {
        "AI RESEARCH: Hematoma segmentation",
        "AI RESEARCH: Hematoma measurements",
        "AI RESEARCH: Hematoma outline",
        "AI RESEARCH: Summary page",
        "AI RESEARCH: Predictions",
    }
    true_ml = 4 / 3 * 3.14159 * AXES_MM[0] * AXES_MM[1] * AXES_MM[2] / 1000
    text = dsrdump(received["bleeding"]["AI RESEARCH: Hematoma measurements"])
    volumes = [line for line in text.splitlines() if "milliliter" in line]
    assert float(volumes[0].split('="')[1].split('"')[0]) == pytest.approx(true_ml, rel=0.25)


def test_no_result_breaks_its_iod(received):
    errors = {
        f"{study} {description}": [error for error in dciodvfy(Path(file)) if SYNTHETIC_DATA not in error]
        for study, files in received.items()
        for description, file in files.items()
    }
    assert errors == {name: [] for name in errors}


def test_results_keep_the_identity_of_their_source(received, test_data):
    source = dcmread(test_data / "ge_head_nct" / "01.dcm", stop_before_pixels=True)
    for file in received["plain"].values():
        result = dcmread(file)
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyID"):
            assert result.get(keyword) == source.get(keyword)
