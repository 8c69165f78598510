"""A whole run leaves an unaltered trail, and neither it nor anything else that is told says who the patient is."""

import io
import json
import logging
import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from typer.testing import CliRunner

from ichnode import logs
from ichnode.cli import app
from ichnode.config import Settings
from ichnode.domain.audit import pseudonym
from ichnode.domain.job import JobState
from ichnode.node import Node
from ichnode.phantom import REGULAR, head_ct
from tests.integration.test_node import RunningNode, destination
from tests.pacs import Pacs

SMALL = replace(REGULAR, rows=64, columns=64)
NAME, ID, ACCESSION = "Quartermain^Allan", "ZULU-4711-Q", "ACC-90210-X"
CHARACTER_SET = "QUARTERMAIN 8859"  # in the wrong place, and pydicom quotes it in a warning to whoever reads a text


def ichnode(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@contextmanager
def standard_error_to(file):
    """Of processes that are started in the block: they inherit the descriptor."""
    before = os.dup(2)
    with file.open("wb") as instead:
        os.dup2(instead.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One node from start to stop at DEBUG; what it told, and where its trail is."""
    folder, told = tmp_path_factory.mktemp("run"), io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(logs.EventFormatter())
    root, own = logging.getLogger(), logging.getLogger("ichnode")
    before = root.level, own.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG), own.setLevel(logging.DEBUG)
    try:
        with standard_error_to(folder / "child.log"), Pacs() as pacs:
            settings = Settings.model_validate(
                {
                    "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder / "data", "reserve_mb": 0},
                    "completeness": {"quiet_s": 0.5},
                    "web": {"port": 0},
                    "destinations": [destination(pacs)],
                    "rules": [{"name": "all", "run": ["hematoma"]}],
                    "inference": {"hematoma_bundle": "hematoma-baseline"},
                }
            )
            node = RunningNode(Node(settings), folder)
            node.node.start()
            head = head_ct(hematoma_ml=20, geometry=SMALL, seed=41).datasets
            for dataset in head:
                dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = NAME, ID, ACCESSION
                dataset.SpecificCharacterSet = CHARACTER_SET
            node.send(head)
            (job,) = node.wait_for_jobs(head[0])
            other = head_ct(hematoma_ml=20, geometry=SMALL, seed=41).datasets[0]  # the same UID, other bytes
            other.PatientID = ID + "2"
            node.send([other])
            stranger = AE("STRANGER")
            stranger.add_requested_context(CTImageStorage)
            assert stranger.associate("127.0.0.1", node.node.dicom_port, ae_title="X").is_rejected
            pages = [node.get(path).text for path in ("/metrics", "/api/jobs", f"/api/jobs/{job.id}", "/readyz")]
            node.stop()
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0]), own.setLevel(before[1])
    config = folder / "ichnode.toml"
    config.write_text(f'[node]\ndata_dir = "{folder}/data"')
    assert job.state is JobState.DONE
    return {
        "log": told.getvalue(),
        "child": (folder / "child.log").read_text(),
        "pages": pages,
        "config": config,
        "study": head[0].StudyInstanceUID,
        "dir": folder,
    }


def test_neither_logs_nor_pages_nor_the_trail_say_who_the_patient_is(run):
    with closing(sqlite3.connect(run["dir"] / "data" / "ichnode.db")) as ledger:
        trail = "\n".join(str(row) for row in ledger.execute("SELECT * FROM audit"))
    assert "study_complete" in run["log"]
    assert "instances_received" in trail
    for text in (run["log"], run["child"], *run["pages"], trail):
        for word in (NAME, "Quartermain", ID, ACCESSION):
            assert word.lower() not in text.lower()


def test_the_trail_tells_the_whole_run_and_is_unaltered(run):
    outcome = ichnode("audit", "verify", "--config", run["config"])
    assert (outcome.exit_code, outcome.output.split(":")[0]) == (0, "unaltered")
    rows = json.loads(ichnode("audit", "show", "--json", "--config", run["config"]).output)
    events = [row["event"] for row in rows]
    assert (events[0], events[-1]) == ("application_started", "audit_read")
    assert "application_stopped" in events
    for event in (
        "association_opened",
        "instances_received",
        "job_decided",
        "job_ended",
        "results_delivered",
        "association_rejected",
    ):
        assert event in events
    assert len(rows[0]["what"]["configuration"]) == 64


def test_the_trail_is_found_by_the_uid_of_a_study_that_it_does_not_say(run):
    everything = ichnode("audit", "show", "--config", run["config"]).output
    assert run["study"] not in everything
    rows = json.loads(ichnode("audit", "show", "--json", "--study", run["study"], "--config", run["config"]).output)
    assert {row["event"] for row in rows} >= {"instances_received", "job_decided", "results_delivered"}
    assert all(pseudonym(run["study"]) in json.dumps(row["what"]) for row in rows)


def test_verify_names_the_row_that_somebody_altered(run, tmp_path):
    database = tmp_path / "data" / "ichnode.db"
    assert ichnode("db", "backup", tmp_path / "copy.db", "--config", run["config"]).exit_code == 0
    database.parent.mkdir()
    (tmp_path / "copy.db").rename(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as ledger:
        ledger.execute("DROP TRIGGER audit_is_not_changed")
        ledger.execute("UPDATE audit SET who = 'SOMEBODY' WHERE sequence = 4")
    config = tmp_path / "ichnode.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"')
    outcome = ichnode("audit", "verify", "--config", config)
    assert outcome.exit_code == 1
    assert outcome.output == "row 4 was altered, or is not in its place\ntampered with\n"
    outcome = ichnode("audit", "verify", "--json", "--config", config)
    assert [one["sequence"] for one in json.loads(outcome.output)["tampered"]] == [4]
