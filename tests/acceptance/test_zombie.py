"""A process that was stopped for longer than its deadline, and wakes: nothing is done or delivered twice by it."""

import signal
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.peers import free_port
from tests.acceptance.scanner import Scanner, scan
from tests.acceptance.serve import Serve
from tests.acceptance.test_fault_points import RESULTS, SMALL
from tests.pacs import ArchivingPacs

pytestmark = pytest.mark.acceptance
DEADLINE_S = 20  # of an analysis that takes a second, but on a busy machine
_pause = threading.Event()


@pytest.fixture
def pacs():
    with ArchivingPacs() as pacs:
        yield pacs


@pytest.fixture
def serve(tmp_path, pacs):
    sections = {
        "completeness": {"quiet_s": 1},
        "delivery": {"first_retry_s": 0.5, "max_retry_s": 2},
        "rules": [{"name": "head-ct", "run": ["hematoma"]}],
        "inference": {"hematoma_bundle": "hematoma-baseline", "device": "cpu", "deadline_s": DEADLINE_S},
    }
    with Serve(tmp_path, **sections) as serve:
        serve.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        yield serve


@pytest.fixture
def study(tmp_path):
    return scan(tmp_path, seed=300, geometry=SMALL)


def stopped(pid):
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        _pause.wait(0.1)
    raise AssertionError("it did not come to pass")


def assert_delivered_once(serve, pacs, study):
    (job,) = serve.wait_for_jobs(1)
    assert job["state"] == "done"
    arrived = pacs.of_study(study.study_instance_uid)
    assert len(arrived) == RESULTS
    assert {len(pacs.files[uid]) for uid in arrived} == {1}  # one object each, however often it was sent
    return serve.get(f"/api/jobs/{job['id']}")


def failures(job):
    return [event["detail"] for event in job["events"] if event["detail"].startswith("attempt")]


def test_a_child_that_sleeps_over_its_deadline_is_killed_and_another_does_its_work(serve, pacs, study):
    serve.start()
    (child,) = [p for p in psutil.Process(serve.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    child.suspend()
    Scanner(serve.dicom_port).send_until_acknowledged(study)
    job = assert_delivered_once(serve, pacs, study)
    assert failures(job) == [
        f"attempt 1: no answer within {DEADLINE_S} s ([inference] deadline_s); the process was killed"
    ]
    assert not child.is_running()
    assert len(pacs.taken) == RESULTS


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("job_claimed", id="with a claim"),
        pytest.param("result_taken", id="with a result that the PACS took and no row tells of"),
    ],
)
def test_a_node_that_slept_over_its_deadline_goes_on_and_delivers_once_and_no_other_took_its_place(
    serve, pacs, study, fault
):
    serve.start(fault=f"{fault}:stop")
    Scanner(serve.dicom_port).send_until_acknowledged(study)
    wait_until(lambda: stopped(serve.pid))
    assert "another ichnode runs on" in start_another(serve)
    _pause.wait(DEADLINE_S + 1)
    psutil.Process(serve.pid).send_signal(signal.SIGCONT)
    job = assert_delivered_once(serve, pacs, study)
    assert failures(job) == []


def start_another(serve):
    """What a second node on the same data folder says as it ends."""
    folder = serve.folder / "other"
    folder.mkdir()
    other = Serve(folder)
    other.sections["node"] = serve.sections["node"] | {"port": free_port()}
    other.launch()
    assert other.wait_for_its_death() == 1
    return Path(other.log).read_text()


def test_node_and_child_stopped_together_in_the_middle_of_an_analysis_deliver_once(serve, pacs, study):
    serve.start(fault="mid_inference:stop")  # every child stops there, until it is woken
    Scanner(serve.dicom_port).send_until_acknowledged(study)
    wait_until(lambda: stopped_children(serve))
    psutil.Process(serve.pid).suspend()
    _pause.wait(DEADLINE_S + 1)
    for child in stopped_children(serve):
        child.resume()  # its answer and the deadline are there at the same time
    psutil.Process(serve.pid).resume()

    def wake_all_until_it_ended():
        for child in stopped_children(serve):
            child.resume()
        return serve.get("/api/jobs")[0]["state"] in ("done", "failed")

    wait_until(wake_all_until_it_ended)
    job = assert_delivered_once(serve, pacs, study)
    assert len(failures(job)) <= 1
    assert len(pacs.taken) == RESULTS


def stopped_children(serve):
    found = []
    for child in psutil.Process(serve.pid).children():
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_STOPPED:
                found.append(child)
    return found
