"""The node as a whole and what it keeps: retention, a damaged database, a disk that runs low."""

import fcntl
import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from alembic.util import CommandError
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.config import Settings
from ichnode.domain.job import JobState
from ichnode.errors import ConfigError, DeliveryError
from ichnode.node import Node
from ichnode.phantom import REGULAR, head_ct
from ichnode.storage.files import FileStore
from ichnode.storage.schema import open_engine
from tests.integration.test_node import RunningNode, _pause

SMALL = replace(REGULAR, rows=64, columns=64)


@pytest.fixture
def start_node(tmp_path):
    """Starts nodes on one data folder, and stops them at the end."""
    running = []

    def start(**sections):
        node = {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path / "data", "reserve_mb": 0}
        defaults = {
            "node": node,
            "completeness": {"quiet_s": 0.5},
            "web": {"port": 0},
            "rules": [{"name": "all", "run": ["hematoma"]}],
            "inference": {"hematoma_bundle": "hematoma-baseline"},
        }
        running.append(RunningNode(Node(Settings.model_validate(defaults | sections)), tmp_path))
        running[-1].node.start()
        return running[-1]

    yield start
    for one in running:
        one.stop()


def test_a_finished_study_leaves_a_node_with_retention_and_its_job_tells(start_node, tmp_path):
    first = start_node()
    head = head_ct(hematoma_ml=20, geometry=SMALL, seed=31).datasets
    first.send(head)
    (job,) = first.wait_for_jobs(head[0])
    assert job.state is JobState.DONE
    first.stop()
    second = start_node(retention={"keep_days": 1e-9})
    for _ in range(500):
        if (purged := second.get(f"/api/jobs/{job.id}").json()["purged"]) is not None:
            break
        _pause.wait(0.02)
    assert (purged["reason"], purged["instances"]) == ("age", len(head))
    for _ in range(500):
        if not [f for f in (tmp_path / "data").rglob("*.dcm")]:
            break
        _pause.wait(0.02)
    assert not [f for f in (tmp_path / "data").rglob("*.dcm")]
    assert "ichnode_store_bytes 0.0" in second.get("/metrics").text


def test_damage_found_while_running_turns_readiness_red_and_refuses_everything(start_node, tmp_path):
    node = start_node()
    head = head_ct(hematoma_ml=20, geometry=SMALL, seed=32).datasets
    assert node.send(head[:1]) == [0]
    assert not node.node.refuses_associations()
    with closing(sqlite3.connect(tmp_path / "data" / "ichnode.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # headers in the WAL would be damaged as well
    node.node._engine.dispose()
    for file in ("ichnode.db-wal", "ichnode.db"):
        path = tmp_path / "data" / file
        if path.exists():
            descriptor = os.open(path, os.O_WRONLY)
            os.pwrite(descriptor, os.urandom(max(0, path.stat().st_size - 100)), 100)
            os.close(descriptor)
    for _ in range(500):
        if node.get("/readyz").status_code == 503 and node.node.refuses_associations():
            break
        _pause.wait(0.02)
    answer = node.get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (503, "database disk image is malformed")
    with pytest.raises(DeliveryError, match="Local limit exceeded"):
        node.send(head[1:3])
    assert node.get("/livez").status_code == 200
    assert "ichnode_build_info" in node.get("/metrics").text


@pytest.mark.parametrize("content", [b"no database" * 1000, None], ids=["another file", "damaged pages"])
def test_a_node_does_not_start_on_a_damaged_database_and_says_what_to_do(tmp_path, content):
    database = tmp_path / "data" / "ichnode.db"
    open_engine(f"sqlite:///{database}").dispose()
    if content is None:
        whole = database.read_bytes()
        content = whole[:4096] + os.urandom(len(whole) - 4096)
    database.write_bytes(content)
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[node]\nhost = "127.0.0.1"\nport = 0\ndata_dir = "{tmp_path}/data"\n[web]\nport = 0')
    outcome = CliRunner().invoke(app, ["serve", "--config", str(file)])
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"database.url: sqlite:///{database} cannot be used: it is damaged: ")
    assert "restore a backup (docs/keeping.md)" in outcome.stderr
    assert "Traceback" not in outcome.output
    with pytest.raises(ConfigError, match="is damaged"):
        Node(Settings.model_validate({"node": {"data_dir": tmp_path / "data", "port": 0}, "web": {"port": 0}}))


@pytest.mark.parametrize("trouble", ["a ledger of the future", "a file where a folder should be"])
def test_a_node_that_cannot_open_its_ledger_or_store_lets_go_of_the_data_folder(tmp_path, trouble):
    settings = Settings.model_validate({"node": {"data_dir": tmp_path, "host": "127.0.0.1", "port": 0}})
    in_the_way = tmp_path / ("ichnode.db" if "ledger" in trouble else "results")
    if "ledger" in trouble:
        with closing(sqlite3.connect(in_the_way)) as ledger, ledger:
            ledger.execute("CREATE TABLE alembic_version (version_num TEXT)")
            ledger.execute("INSERT INTO alembic_version VALUES ('of the future')")
    else:
        in_the_way.write_text("")
    with pytest.raises((CommandError, ConfigError)):
        Node(settings)
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_readiness_tells_what_the_disk_lacks(start_node, monkeypatch):
    node = start_node()
    monkeypatch.setattr(FileStore, "trouble", lambda self: "read-only")
    assert node.get("/readyz").json()["disk"] == "read-only"
    assert node.node.refuses_associations()


def test_a_running_node_is_checked_and_backed_up_and_a_lost_database_is_noticed(start_node, tmp_path, caplog):
    node = start_node()
    head = head_ct(hematoma_ml=20, geometry=SMALL, seed=33).datasets
    assert set(node.send(head)) == {0}
    config = tmp_path / "ichnode.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"')
    for command in (["check"], ["backup", str(tmp_path / "copy.db")]):
        outcome = CliRunner().invoke(app, ["db", *command, "--config", str(config)])
        assert outcome.exit_code == 0, outcome.output
    assert f"verified, {len(head)} instances" in outcome.output
    node.stop()
    for file in (tmp_path / "data").glob("ichnode.db*"):
        file.unlink()
    with caplog.at_level("WARNING", logger="ichnode"):
        start_node()
    assert "files_without_rows" in [record.message for record in caplog.records]
