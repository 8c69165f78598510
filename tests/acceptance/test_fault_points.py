"""`ichnode serve` killed with SIGKILL at every point that `ichnode.faults` names, and started again.

Every acknowledged instance is there byte for byte, nothing half-written is, the node is ready within 10 s, and each
study gets its results exactly once, with the ledger on SQLite as on PostgreSQL. Each start after a kill is armed for
the next study's point, to save starts; a point alone (`-k`), or one that any study could pass, has its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import psutil
import pytest

from ichnode.errors import DeliveryError
from ichnode.faults import POINTS
from ichnode.phantom import REGULAR
from ichnode.storage.check import check
from ichnode.storage.dialect import new_engine
from tests.acceptance.scanner import ScannedStudy, Scanner, data_set_of, scan
from tests.acceptance.serve import Serve
from tests.pacs import ArchivingPacs, CommittingPacs

pytestmark = pytest.mark.acceptance
READY_S = 10.0
SETTLED_S = 3600.0  # from then on every file without a row counts
RESULTS = 4  # of one study: one SEG, two reports, one page
SMALL = replace(REGULAR, rows=64, columns=64)
TWO_FRAGMENTS = REGULAR  # an instance does not fit into one PDU
OF_NO_ROW = ("data_set_half_written", "file_renamed", "file_synced", "mid_inference", "result_kept")
OF_INSTANCE = ("data_set_half_written", "file_published", "instance_committed")
OF_ANY_STUDY = (  # whichever comes first: these points do not say whose file or delivery it is
    "file_renamed",
    "file_synced",
    "result_taken",
    "delivery_noted",
    "job_ending",
    "commitment_noted",
    "commitment_asked",
)
OF_PURGE = ("study_purged", "files_removed")
WITHOUT_ROW = {
    "file_renamed": 1,
    "file_synced": 1,
    "file_published": 1,
    "result_kept": 1,
}  # complete files, decision 18


@dataclass
class Crashes:
    """One node that is killed again and again, and whom it talks to."""

    serve: Serve
    pacs: ArchivingPacs
    archive: CommittingPacs
    scanner: Scanner
    study: Callable[[str], ScannedStudy]
    sent: list[ScannedStudy] = field(default_factory=list)
    armed: str = ""
    without_row: int = 0  # complete files that nobody acknowledged

    def run_armed(self, point: str) -> None:
        """A node that runs and will be killed at `point` by the study that is sent next."""
        if not (self.serve.alive and self.armed == point):
            self.end()
            self.restart(point)

    def fault(self, point: str) -> str:
        study, about = self.study(point), ""
        if point in OF_INSTANCE:
            about = f"@{study.instances[4].sop_instance_uid}"
        elif point not in OF_ANY_STUDY:
            about = f"@{study.study_instance_uid}"
        nth = ":2" if point == "delivery_noted" else ""
        return f"{point}{about}:kill_node{nth}"

    def restart(self, point: str = "") -> float:
        """Start it again, armed for `point`; after how many seconds it was ready; on a busy machine, of its CPU."""
        began = time.monotonic()
        self.serve.start(fault=point and self.fault(point))
        self.armed = point
        took_s = time.monotonic() - began
        node = psutil.Process(self.serve.pid)
        times = [process.cpu_times() for process in (node, *node.children())]
        return min(took_s, sum(t.user + t.system for t in times))

    def kept(self) -> dict[str, Path]:
        return {uid: Path(file) for uid, file in self.serve.ask("SELECT sop_instance_uid, file FROM instances")}

    def purgeable(self) -> set[str]:
        """The studies that are still here."""
        return {uid for (uid,) in self.serve.ask("SELECT DISTINCT study_instance_uid FROM instances")}

    def end(self) -> None:
        if self.serve.alive:
            self.serve.stop()


def expect_ready(took_s: float) -> None:
    """Within what is promised; where importing packages takes a third of that already, within three times it."""
    assert took_s < READY_S or took_s < 3 * seconds_of_imports()


def seconds_of_imports() -> float:
    """CPU seconds that a node and its child need here and now for nothing but their imports."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import ichnode.node, ichnode.stages.analysis, torch"], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.fixture(scope="module")
def crashes(tmp_path_factory, database):
    folder, scans = tmp_path_factory.mktemp("crashes"), {}
    scanned = tmp_path_factory.mktemp("scanned")

    def study(point: str) -> ScannedStudy:
        if point not in scans:
            geometry = TWO_FRAGMENTS if point == "data_set_half_written" else SMALL
            scans[point] = scan(scanned, seed=100 + [*POINTS].index(point), geometry=geometry)
        return scans[point]

    sections = {
        "database": database,
        "completeness": {"quiet_s": 8},  # geometry completes a study sooner; a slow restart may pause in the middle
        "delivery": {"first_retry_s": 0.5, "max_retry_s": 2},
        "rules": [{"name": "head-ct", "run": ["hematoma"]}],
        "inference": {"hematoma_bundle": "hematoma-baseline", "device": "cpu"},
    }
    with ArchivingPacs() as pacs, CommittingPacs() as archive, Serve(folder, **sections) as serve:
        serve.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        serve.add_destination(
            name="archive",
            ae_title="PACS",
            host="127.0.0.1",
            port=archive.port,
            commitment=True,
            commitment_timeout_s=2,
        )
        yield Crashes(serve, pacs, archive, Scanner(serve.dicom_port), study)


def assert_acknowledged_are_kept(crashes):
    """Byte for byte; and nothing half-written is to be seen."""
    kept = crashes.kept()
    for instance in (i for study in crashes.sent for i in study.instances):
        if instance.sop_instance_uid in crashes.scanner.acknowledged:
            file = kept[instance.sop_instance_uid]
            assert data_set_of(file.read_bytes()) == data_set_of(Path(instance.file).read_bytes())
    assert not list((crashes.serve.folder / "data").rglob("*.part"))


def assert_arrived_once(crashes, study):
    """One job, and its results at both destinations: however often they were sent, each is one object."""
    jobs = crashes.serve.wait_for_jobs(len(crashes.sent))
    of_study = [job for job in jobs if job["study_instance_uid"] == study.study_instance_uid]
    assert [job["state"] for job in of_study] == ["done"]
    arrived = crashes.pacs.of_study(study.study_instance_uid)
    assert len(arrived) == RESULTS
    assert arrived <= set(crashes.archive.taken)
    assert {len(crashes.pacs.files[uid]) for uid in arrived} == {1}


def assert_sound(crashes, *, without_row):
    """What `ichnode db check` says once no file is young any more."""
    engine = new_engine(crashes.serve.ledger_url)
    folders = [crashes.serve.folder / "data" / name for name in ("instances", "results")]
    problems = check(engine, folders, now=time.time() + SETTLED_S).problems
    engine.dispose()
    assert Counter(problem.kind for problem in problems) == Counter(file_without_row=without_row)


WHILE_RUNNING = [point for point in POINTS if point not in ("models_loading", *OF_PURGE)]
BETWEEN_ROWS = [point for point in WHILE_RUNNING if point not in OF_NO_ROW]  # where the database makes a difference
CASES = [*product(["sqlite"], WHILE_RUNNING), *product(["postgresql"], BETWEEN_ROWS)]


@pytest.mark.parametrize(("database", "point"), CASES, indirect=["database"])
def test_a_node_killed_at(crashes, database, point):
    points = BETWEEN_ROWS if database else WHILE_RUNNING
    study, later = crashes.study(point), points[points.index(point) + 1 :]
    crashes.run_armed(point)
    crashes.sent.append(study)
    with suppress(DeliveryError):
        crashes.scanner.send(study)
    assert crashes.serve.wait_for_its_death() == -signal.SIGKILL
    crashes.without_row += WITHOUT_ROW.get(point, 0)

    following = later[0] if later and later[0] not in OF_ANY_STUDY else ""
    took_s = crashes.restart(following)
    assert_acknowledged_are_kept(crashes)
    crashes.scanner.send_until_acknowledged(study)
    assert_arrived_once(crashes, study)
    assert_acknowledged_are_kept(crashes)
    assert_sound(crashes, without_row=crashes.without_row)
    expect_ready(took_s)


def test_a_node_killed_while_it_loads_its_models_starts_the_next_time(crashes):
    crashes.end()
    crashes.serve.launch(fault="models_loading:kill_node")
    assert crashes.serve.wait_for_its_death() == -signal.SIGKILL
    expect_ready(crashes.restart())
    assert_acknowledged_are_kept(crashes)


@pytest.mark.parametrize("point", OF_PURGE)
def test_a_node_killed_while_it_purges_leaves_no_file_behind(crashes, point):
    study = crashes.study(point)
    crashes.run_armed("")
    crashes.sent.append(study)
    crashes.scanner.send_until_acknowledged(study)
    assert_arrived_once(crashes, study)
    files = [crashes.kept()[i.sop_instance_uid] for i in study.instances]
    assert all(file.exists() for file in files)
    crashes.serve.stop()
    crashes.serve.sections["retention"] = {"keep_days": 1e-9}
    crashes.serve.launch(fault=f"{point}:kill:{len(crashes.purgeable())}")  # the newest goes last
    assert crashes.serve.wait_for_its_death() == -signal.SIGKILL
    assert crashes.kept() == {}

    crashes.serve.sections["retention"] = {}
    expect_ready(crashes.restart())
    assert not any(file.exists() for file in files)
    assert_sound(crashes, without_row=crashes.without_row)
