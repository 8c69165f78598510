"""Orthanc sends a head CT to `ichnode serve`, takes the results back, by C-STORE and by STOW-RS, and shows them."""

import threading

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from ichnode.dicom.commitment import request_commitment
from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.dicom.statuses import Verdict
from ichnode.dicom.stow import StowService, store
from ichnode.simulated_patient import simulated_patient
from tests.acceptance.orthanc import Orthanc
from tests.acceptance.serve import Serve
from tests.pacs import report_listener
from tests.series_factory import phantom_datasets

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
        serve.add_destination(name="web", url=orthanc.dicomweb_url)
        serve.start()
        for file in files:
            orthanc.post_file(file)
        orthanc.post("modalities/ICHNODE/store", orthanc.get("studies"))
        (job,) = serve.wait_for_jobs(1)
        yield orthanc, serve, job, patient


def test_orthanc_takes_every_result(round_trip):
    _, serve, job, _ = round_trip
    details = serve.get(f"/api/jobs/{job['id']}")
    states = [(d["destination"], d["state"], d["status"]) for d in details["deliveries"]]
    each = [("pacs", "delivered", "0x0000"), ("web", "delivered", "0x0000")]
    assert sorted(states) == sorted(each * len(details["results"]))
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


def phantom_files(folder):
    files = []
    for dataset in phantom_datasets()[:3]:
        file = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        files.append(
            Outgoing(sop_class_uid=dataset.SOPClassUID, sop_instance_uid=dataset.SOPInstanceUID, file=str(file))
        )
    return files


def test_orthanc_takes_by_stow_what_it_gives_back_unaltered(tmp_path):
    objects = phantom_files(tmp_path)
    with Orthanc(tmp_path / "orthanc") as orthanc:
        (outcomes,) = store(StowService(url=orthanc.dicomweb_url), objects)
        (again,) = store(StowService(url=orthanc.dicomweb_url), objects)
        stored = DICOMwebClient(orthanc.dicomweb_url).search_for_instances()
    assert [(o.verdict, o.status) for o in [*outcomes, *again]] == [(Verdict.DELIVERED, 0)] * 6
    assert {item["00080018"]["Value"][0] for item in stored} == {o.sop_instance_uid for o in objects}


def test_orthanc_commits_itself_to_what_it_has_on_an_association_of_its_own(tmp_path):
    objects = phantom_files(tmp_path)
    *sent, kept_back = objects
    reports, arrived = [], threading.Event()

    def reported(report):
        reports.append(report)
        arrived.set()
        return True

    with (
        report_listener(reported) as port,
        Orthanc(tmp_path / "orthanc", known={"ICHNODE": port}) as orthanc,
    ):
        peer = Peer(ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom_port)
        list(send(peer, sent, calling_ae_title="ICHNODE"))
        at_once = request_commitment(peer, "2.25.7", objects, calling_ae_title="ICHNODE", wait_s=0, reported=reported)
        assert arrived.wait(30)
    (report,) = reports
    assert not at_once
    assert report.transaction_uid == "2.25.7"
    assert report.committed == {o.sop_instance_uid for o in sent}
    assert report.failed == {kept_back.sop_instance_uid: 0x0112}
