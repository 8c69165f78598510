"""A study that kills the process that analyses it: parked after three attempts, while others are served."""

import threading

import pytest

from tests.acceptance.scanner import Scanner, scan
from tests.acceptance.serve import Serve
from tests.acceptance.test_fault_points import RESULTS, SMALL
from tests.pacs import Pacs

pytestmark = pytest.mark.acceptance
_pause = threading.Event()


@pytest.fixture
def pacs():
    with Pacs() as pacs:
        yield pacs


@pytest.fixture
def serve(tmp_path, pacs, database):
    sections = {
        "database": database,
        "completeness": {"quiet_s": 1},
        "rules": [{"name": "head-ct", "run": ["hematoma"]}],
        "inference": {"hematoma_bundle": "hematoma-baseline", "device": "cpu"},
    }
    with Serve(tmp_path, **sections) as serve:
        serve.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        yield serve


def attempts_of(serve, job_id):
    """What the job's events tell of its failed attempts."""
    details = (event["detail"] for event in serve.get(f"/api/jobs/{job_id}")["events"])
    return [detail for detail in details if detail.startswith("attempt")]


def test_a_study_that_kills_the_worker_is_parked_after_three_attempts_also_over_restarts_of_the_node(
    serve, pacs, tmp_path
):
    poison, healthy = (scan(tmp_path, seed=seed, geometry=SMALL) for seed in (200, 201))
    fault, scanner = f"mid_inference@{poison.study_instance_uid}:kill", Scanner(serve.dicom_port)
    serve.start(fault=fault)
    scanner.send_until_acknowledged(poison)
    while serve.log.read_text().count("attempt_failed") < 1:
        assert serve.alive
        _pause.wait(0.05)
    serve.kill()

    serve.start(fault=fault)
    scanner.send_until_acknowledged(healthy)
    jobs = {job["study_instance_uid"]: job for job in serve.wait_for_jobs(2)}
    parked, done = jobs[poison.study_instance_uid], jobs[healthy.study_instance_uid]
    assert (parked["state"], parked["reason"], done["state"]) == ("failed", "crash", "done")
    killed = "the process was killed (SIGKILL), probably out of memory"
    assert attempts_of(serve, parked["id"]) == [f"attempt {number}: {killed}" for number in (1, 2, 3)]
    assert {d.StudyInstanceUID for d in pacs.wait_for(RESULTS)} == {healthy.study_instance_uid}
    assert serve.alive

    serve.stop()
    serve.start()
    assert {job["state"] for job in serve.wait_for_jobs(2)} == {"failed", "done"}
    assert len(attempts_of(serve, parked["id"])) == 3
    assert len(pacs.taken) == RESULTS
