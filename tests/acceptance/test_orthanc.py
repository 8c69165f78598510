"""Orthanc sends a head CT to `ichnode serve`, takes the results back and shows them over DICOMweb."""

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from ichnode.simulated_patient import simulated_patient
from tests.acceptance.orthanc import Orthanc
from tests.acceptance.serve import Serve

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def round_trip(tmp_path_factory):
    """Orthanc with the simulated patient's study and its results, and the source."""
    folder = tmp_path_factory.mktemp("orthanc")
    patient = simulated_patient()
    files = []
    for number, dataset in enumerate(patient.datasets):
        files.append(folder / f"{number:03d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    serve = Serve(folder, completeness={"quiet_s": 1})
    with serve, Orthanc(folder / "orthanc", known={"ICHNODE": serve.dicom_port}) as orthanc:
        serve.add_destination(name="pacs", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom_port)
        serve.start()
        for file in files:
            orthanc.post_file(file)
        orthanc.post("modalities/ICHNODE/store", orthanc.get("studies"))
        (job,) = serve.wait_for_jobs(1)
        yield orthanc, serve, job, patient


def test_orthanc_takes_every_result(round_trip):
    _, serve, job, _ = round_trip
    details = serve.get(f"/api/jobs/{job['id']}")
    states = [(d["state"], d["status"]) for d in details["deliveries"]]
    assert states == [("delivered", "0x0000")] * len(details["results"])
    assert {"segmentation", "predicted_segmentation", "predicted_series", "prediction_report", "summary_page"} <= {
        result["role"] for result in details["results"]
    }


def test_what_comes_back_over_dicomweb_equals_what_was_sent(round_trip):
    orthanc, serve, job, patient = round_trip
    client = DICOMwebClient(orthanc.dicomweb_url)
    study = patient.datasets[0].StudyInstanceUID
    for result in serve.get(f"/api/jobs/{job['id']}")["results"]:
        sent = dcmread(result["file"])
        back = client.retrieve_instance(study, result["series_instance_uid"], result["sop_instance_uid"])
        assert back == sent


def test_the_study_in_the_pacs_holds_source_and_results_under_one_patient(round_trip):
    orthanc, serve, job, patient = round_trip
    results = serve.get(f"/api/jobs/{job['id']}")["results"]
    assert orthanc.get("statistics")["CountInstances"] == len(patient.datasets) + len(results)
    assert orthanc.get("statistics")["CountStudies"] == orthanc.get("statistics")["CountPatients"] == 1


def test_results_that_the_pacs_sends_back_are_ignored(round_trip):
    orthanc, serve, job, _ = round_trip
    own = {result["series_instance_uid"] for result in serve.get(f"/api/jobs/{job['id']}")["results"]}
    orthanc.post("modalities/ICHNODE/store", orthanc.get("studies"))
    jobs = serve.wait_for_jobs(1 + len(own))
    ignored = [("ignored", "own_result")] * len(own)
    assert sorted((j["state"], j["reason"]) for j in jobs) == [("done", "chosen"), *ignored]
