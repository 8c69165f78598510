"""The node as a whole, in this process, over real sockets: a head CT in, results out."""

import resource
import threading
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import active_children
from time import monotonic

import httpx
import psutil
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage, SegmentationStorage

from ichnode.config import Inference, Settings
from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.domain.job import JobState
from ichnode.node import MEMORY_LIMIT_BYTES, Node, memory_limit_bytes
from ichnode.phantom import REGULAR, head_ct
from tests.pacs import CommittingPacs, Pacs
from tests.stuck_peer import READING, stuck_peer

SMALL = replace(REGULAR, rows=128, columns=128)
ENDED = {JobState.DONE, JobState.FAILED, JobState.REFUSED, JobState.IGNORED, JobState.SUPERSEDED, JobState.DROPPED}
ALL_RESULTS = {"Hematoma segmentation", "Hematoma measurements", "Hematoma outline", "Summary page"}
_pause = threading.Event()


class RunningNode:
    """A node under test, and what tests ask of it."""

    def __init__(self, node: Node, folder) -> None:
        self.node = node
        self._folder = folder
        self._stopped = False

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.node.stop()

    def send(self, datasets: list[Dataset]) -> list[int | None]:
        files = []
        for dataset in datasets:
            file = self._folder / f"{dataset.SOPInstanceUID}.dcm"
            dataset.save_as(file, enforce_file_format=True)
            files.append(
                Outgoing(sop_class_uid=dataset.SOPClassUID, sop_instance_uid=dataset.SOPInstanceUID, file=str(file))
            )
        peer = Peer(ae_title="ICHNODE", host="127.0.0.1", port=self.node.dicom_port)
        return [o.status for known in send(peer, files, calling_ae_title="SCANNER") for o in known]

    def jobs(self, dataset: Dataset):
        """The jobs of the data set's study, oldest first."""
        return [j for j in reversed(self.node.history.list_jobs()) if j.study_instance_uid == dataset.StudyInstanceUID]

    def wait_for_jobs(self, dataset: Dataset, count: int = 1, *, timeout_s: float = 60, settled=True):
        for _ in range(int(timeout_s / 0.02)):
            jobs = self.jobs(dataset)
            waiting = any(w.study_instance_uid == dataset.StudyInstanceUID for w in self.node.intake.waiting_studies())
            if len(jobs) >= count and (not settled or (not waiting and all(j.state in ENDED for j in jobs))):
                return jobs
            _pause.wait(0.02)
        raise AssertionError(f"jobs: {[(j.state, j.reason, j.detail) for j in self.jobs(dataset)]}")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.node.web_port}{path}", trust_env=False)


@pytest.fixture(scope="module")
def start_node(tmp_path_factory):
    """Starts nodes with the given sections, and stops them at the end of the module."""
    with ExitStack() as stack:

        def start(data_dir=None, **sections):
            folder = tmp_path_factory.mktemp("node")
            settings = Settings.model_validate(
                {
                    "node": {
                        "host": "127.0.0.1",
                        "port": 0,
                        "data_dir": data_dir or folder / "data",
                        "reserve_mb": 0,
                    },
                    "completeness": {"quiet_s": 2},  # a pause while somebody sends must not end the study early
                    "rules": [{"name": "head-ct", "run": ["hematoma"]}],
                    "inference": {"hematoma_bundle": "hematoma-baseline"},  # quick, and at home in phantoms
                    "web": {"port": 0},
                    "delivery": {"first_retry_s": 0.2, "max_attempts": 3},
                }
                | sections
            )
            node = Node(settings)
            node.start()
            running = RunningNode(node, folder)
            stack.callback(running.stop)
            return running

        yield start


def destination(pacs_or_port, name="pacs"):
    port = getattr(pacs_or_port, "port", pacs_or_port)
    return {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": port, "connect_timeout_s": 2}


@pytest.fixture(scope="module")
def pacs():
    with Pacs() as pacs:
        yield pacs


@pytest.fixture(scope="module")
def node(start_node, pacs):
    return start_node(destinations=[destination(pacs)])


def results_for(pacs, dataset):
    return [d for d in pacs.taken if d.StudyInstanceUID == dataset.StudyInstanceUID]


def test_a_head_ct_goes_in_and_its_results_come_out(node, pacs):
    phantom = head_ct(hematoma_ml=40, geometry=SMALL, seed=11)
    assert set(node.send(phantom.datasets)) == {0}
    (job,) = node.wait_for_jobs(phantom.datasets[0])
    assert (job.state, job.reason, job.rule) == (JobState.DONE, "chosen", "head-ct")
    assert job.findings["hematoma"]["volume_ml"] == pytest.approx(40, rel=0.15)
    results = results_for(pacs, phantom.datasets[0])
    assert {r.SeriesDescription.removeprefix("AI RESEARCH: ") for r in results} == ALL_RESULTS
    assert [e.to_state for e in node.node.history.events(job.id)] == ["ready", "analysing", "delivering", "done"]


def test_the_process_that_analyses_has_a_limit_on_its_memory(node):
    of_processes = [psutil.Process(child.pid).rlimit(resource.RLIMIT_DATA) for child in active_children()]
    assert (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES) in of_processes


@pytest.mark.parametrize(
    ("inference", "beside_a_gpu", "limit_bytes"),
    [
        ({"device": "auto"}, False, MEMORY_LIMIT_BYTES),
        ({"device": "cpu"}, True, MEMORY_LIMIT_BYTES),
        ({"device": "auto"}, True, None),
        ({"device": "auto", "memory_limit_mb": 2048}, True, 2_048_000_000),
    ],
)
def test_without_a_word_memory_is_limited_where_the_cpu_computes(tmp_path, inference, beside_a_gpu, limit_bytes):
    driver = tmp_path / "nvidiactl"
    if beside_a_gpu:
        driver.touch()
    assert memory_limit_bytes(Inference(**inference), driver) == limit_bytes


def test_the_same_study_again_makes_no_new_job_and_no_new_object(node, pacs):
    phantom = head_ct(hematoma_ml=10, geometry=SMALL, seed=12)
    node.send(phantom.datasets)
    node.wait_for_jobs(phantom.datasets[0])
    before = len(pacs.taken)
    assert set(node.send(phantom.datasets)) == {0}
    assert len(node.wait_for_jobs(phantom.datasets[0])) == 1
    assert len(pacs.taken) == before


def test_no_hematoma_is_a_result_too(node, pacs):
    phantom = head_ct(hematoma_ml=0, geometry=SMALL, seed=13)
    node.send(phantom.datasets)
    (job,) = node.wait_for_jobs(phantom.datasets[0])
    assert job.findings["hematoma"] is None
    found = {r.SeriesDescription for r in results_for(pacs, phantom.datasets[0])}
    assert found == {"AI RESEARCH: Hematoma measurements", "AI RESEARCH: Summary page"}


def test_own_results_fed_back_in_are_ignored_with_a_reason(node, pacs):
    phantom = head_ct(hematoma_ml=20, geometry=SMALL, seed=14)
    node.send(phantom.datasets)
    node.wait_for_jobs(phantom.datasets[0])
    results = results_for(pacs, phantom.datasets[0])
    assert set(node.send(results)) == {0}
    jobs = node.wait_for_jobs(phantom.datasets[0], 1 + len(results))
    assert [(j.state, j.reason) for j in jobs[1:]] == [(JobState.IGNORED, "own_result")] * len(results)
    assert len(results_for(pacs, phantom.datasets[0])) == len(results)


def test_a_late_slice_opens_a_new_job_whose_report_names_the_old_one(node, pacs):
    phantom = head_ct(hematoma_ml=30, geometry=SMALL, seed=15)
    node.send(phantom.datasets[:-1])
    node.wait_for_jobs(phantom.datasets[0])
    old_report = pacs.by_description()["Hematoma measurements"]
    node.send(phantom.datasets[-1:])
    old, new = node.wait_for_jobs(phantom.datasets[0], 2)
    report = pacs.by_description()["Hematoma measurements"]
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert new.supersedes == old.id
    assert named.ReferencedSOPInstanceUID == old_report.SOPInstanceUID
    assert report.SOPInstanceUID != old_report.SOPInstanceUID


def test_a_refused_series_gets_its_reason_and_no_result(node, pacs):
    phantom = head_ct(hematoma_ml=30, geometry=SMALL, seed=16)
    with_a_hole = [d for d in phantom.datasets if d.InstanceNumber != 15]
    node.send(with_a_hole)
    (job,) = node.wait_for_jobs(phantom.datasets[0])
    assert (job.state, job.reason) == (JobState.REFUSED, "missing_slices")
    assert results_for(pacs, phantom.datasets[0]) == []


def test_two_patients_in_one_study_are_never_analysed(node, pacs):
    phantom = head_ct(hematoma_ml=30, geometry=SMALL, seed=21)
    for dataset in phantom.datasets[:3]:
        dataset.PatientID = "SOMEONE-ELSE"
    node.send(phantom.datasets)
    (job,) = node.wait_for_jobs(phantom.datasets[0])
    assert (job.state, job.reason) == (JobState.IGNORED, "mixed_patients")
    assert results_for(pacs, phantom.datasets[0]) == []


def test_the_http_side_shows_jobs_health_and_metrics(node):
    jobs = node.get("/api/jobs").json()
    one = node.get(f"/api/jobs/{jobs[-1]['id']}").json()
    assert one["state"] == "done"
    assert {d["state"] for d in one["deliveries"]} == {"delivered"}
    assert node.get("/api/jobs/999999").status_code == 404
    assert node.get("/api/jobs?state=nonsense").status_code == 400
    assert node.get("/livez").text == "ok"
    assert node.get("/readyz").status_code == 200
    page = node.get("/metrics").text
    for name in (
        'ichnode_instances_received_total{source="unlisted"}',
        'ichnode_series_decisions_total{decision="analyse",reason="chosen"}',
        'ichnode_series_decisions_total{decision="refuse",reason="missing_slices"}',
        'ichnode_jobs{state="done"}',
        'ichnode_stage_seconds_bucket{le="0.05",stage="read"}',
        "ichnode_last_image_to_result_seconds_bucket",
        'ichnode_deliveries_total{destination="pacs",status="delivered"}',
        'ichnode_inference_seconds_bucket{device="cpu",le="0.05",model="hematoma-baseline"}',
        "ichnode_store_bytes",
        "ichnode_build_info{",
    ):
        assert name in page


def test_a_dead_destination_delays_no_other_and_ends_as_a_dead_letter_that_retry_revives(start_node):
    with Pacs() as alive:
        reserved = Pacs()
        reserved._scp.stop()
        node = start_node(destinations=[destination(alive), destination(reserved.port, "dead")])
        phantom = head_ct(hematoma_ml=20, geometry=SMALL, seed=17)
        node.send(phantom.datasets)
        alive.wait_for(4)
        (job,) = node.wait_for_jobs(phantom.datasets[0])
        assert (job.state, job.reason) == (JobState.FAILED, "delivery")
        states = {(d.destination, d.state, d.attempts) for d in node.node.outbox.of_job(job.id)}
        assert states == {("pacs", "delivered", 1), ("dead", "dead", 3)}
        with Pacs(port=reserved.port) as revived:
            assert node.node.ledger.retry(job.id, at=0, who="somebody") is JobState.DELIVERING
            revived.wait_for(4)
            assert node.wait_for_jobs(phantom.datasets[0])[0].state is JobState.DONE
        assert len(alive.taken) == 4


def test_a_full_destination_is_tried_again_and_a_refusing_one_is_not(start_node):
    with Pacs(answers=[0xA700, 0, 0, 0xA900]) as pacs:
        node = start_node(destinations=[destination(pacs)])
        phantom = head_ct(hematoma_ml=20, geometry=SMALL, seed=18)
        node.send(phantom.datasets)
        (job,) = node.wait_for_jobs(phantom.datasets[0])
        states = [(d.state, d.attempts, d.status) for d in node.node.outbox.of_job(job.id)]
        assert sorted(states) == [
            ("delivered", 1, 0),
            ("delivered", 1, 0),
            ("delivered", 2, 0),
            ("refused", 1, 0xA900),
        ]
        assert job.state is JobState.FAILED


def test_an_ignored_head_ct_is_reported_where_the_rule_wants_it(start_node):
    with Pacs() as pacs:
        rule = {
            "name": "thin",
            "run": ["hematoma"],
            "match": {"thickness": {"range": [0, 2]}},
            "send_to": ["pacs"],
            "report_ignored": True,
        }
        node = start_node(destinations=[destination(pacs)], rules=[rule])
        phantom = head_ct(hematoma_ml=20, geometry=SMALL, seed=19)
        node.send(phantom.datasets)
        (job,) = node.wait_for_jobs(phantom.datasets[0])
        (report,) = pacs.taken
        assert (job.state, job.decision, job.reason) == (JobState.DONE, "ignore", "no_rule")
        assert report.Modality == "SR"


def test_a_node_stopped_with_work_in_hand_goes_on_with_it_after_the_next_start(start_node, tmp_path):
    with Pacs() as pacs:
        first = start_node(data_dir=tmp_path / "data", destinations=[destination(pacs)])
        phantom = head_ct(hematoma_ml=20, geometry=SMALL, seed=20)
        first.send(phantom.datasets)
        first.wait_for_jobs(phantom.datasets[0], settled=False)
        first.stop()
        second = start_node(data_dir=tmp_path / "data", destinations=[destination(pacs)])
        (job,) = second.wait_for_jobs(phantom.datasets[0])
        assert job.state is JobState.DONE
        assert len(pacs.taken) == 4


def test_two_nodes_cannot_share_a_data_folder(start_node, tmp_path):
    from ichnode.errors import ConfigError

    start_node(data_dir=tmp_path / "data")
    with pytest.raises(ConfigError, match=r"node\.data_dir: another ichnode runs"):
        start_node(data_dir=tmp_path / "data")


def test_results_are_delivered_once_the_destination_has_committed_itself(start_node):
    phantom = head_ct(hematoma_ml=40, geometry=SMALL, seed=31)
    with CommittingPacs() as pacs:
        node = start_node(destinations=[destination(pacs) | {"commitment": True}])
        node.send(phantom.datasets)
        (job,) = node.wait_for_jobs(phantom.datasets[0])
    shown = node.get(f"/api/jobs/{job.id}").json()
    assert job.state is JobState.DONE
    (request,) = pacs.asked
    assert {(d["state"], d["transaction_uid"]) for d in shown["deliveries"]} == {("delivered", request.TransactionUID)}
    assert len(request.ReferencedSOPSequence) == len(shown["results"])


def test_a_pacs_that_refuses_segmentation_has_the_summary_page_and_its_job_is_done(start_node):
    phantom = head_ct(hematoma_ml=40, geometry=SMALL, seed=32)
    with CommittingPacs(takes=[Comprehensive3DSRStorage, SecondaryCaptureImageStorage]) as pacs:
        node = start_node(destinations=[destination(pacs)])
        node.send(phantom.datasets)
        (job,) = node.wait_for_jobs(phantom.datasets[0])
    assert job.state is JobState.DONE
    deliveries = node.get(f"/api/jobs/{job.id}").json()["deliveries"]
    assert {d["role"]: d["state"] for d in deliveries if d["state"] != "delivered"} == {"segmentation": "replaced"}
    (shown,) = node.get("/api/destinations").json()
    (refused,) = shown["refused_classes"]
    assert (shown["name"], refused["sop_class_uid"]) == ("pacs", SegmentationStorage)
    assert f'sop_class_uid="{SegmentationStorage}"' in node.get("/metrics").text


def test_a_destination_that_hangs_delays_neither_receiving_nor_another_nor_the_stop(start_node):
    with Pacs() as alive, stuck_peer(READING) as port:
        hangs = {**destination(port, "hangs"), "connect_timeout_s": 60, "response_timeout_s": 60}
        node = start_node(destinations=[hangs, destination(alive)])
        phantom, later = (head_ct(hematoma_ml=20, geometry=SMALL, seed=seed) for seed in (33, 34))
        node.send(phantom.datasets)
        alive.wait_for(4)
        assert set(node.send(later.datasets)) == {0}
        alive.wait_for(8)
        assert node.jobs(phantom.datasets[0])[0].state is JobState.DELIVERING
        began = monotonic()
        node.stop()
        assert monotonic() - began < 20
