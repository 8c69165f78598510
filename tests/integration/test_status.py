"""`ichnode status` shows a node on one screen, and changes nothing of it."""

import json
import re
import socket

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.cli_look import _status_lines
from ichnode.config import Settings
from ichnode.domain.job import JobState
from ichnode.status import status_of
from ichnode.storage.overview import Overview, Started, WaitingJob
from ichnode.storage.schema import open_engine
from tests.finished_study import Clinic


@pytest.fixture
def clinic(engine, tmp_path):
    return Clinic(engine, tmp_path)


def settings_of(tmp_path, **sections):
    node = {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path}
    return Settings.model_validate({"node": node, "web": {"port": 0}} | sections)


def test_the_oldest_job_on_its_way_is_told(clinic, engine):
    assert Overview(engine).oldest_waiting_job() is None
    clinic.finish("1")
    for clinic.now, study in ((2000.0, "2"), (3000.0, "3")):
        clinic.receive(study)
        clinic.decide(study)
    found = Overview(engine).oldest_waiting_job()
    assert found == WaitingJob(id=2, state=JobState.READY, created_at=2000.0)


def test_the_last_instance_of_each_source_is_told(clinic, engine):
    for clinic.now, study in ((1000.0, "1"), (1500.0, "2")):
        clinic.receive(study)
    assert Overview(engine).last_instances() == {"CT": 1500.0}


def test_deliveries_are_counted_by_destination_and_state(clinic, engine):
    clinic.finish("1")
    clinic.receive("2")
    clinic.decide("2", send_to=("pacs", "archive"))
    clinic.analyse()
    assert Overview(engine).deliveries() == {"pacs": {"delivered": 1, "pending": 1}, "archive": {"pending": 1}}


def test_the_last_start_has_its_version(engine):
    from ichnode.domain.audit import AuditEvent
    from ichnode.storage.audit import AuditTrail

    assert Overview(engine).last_start() is None
    for at, version in ((1.0, "0.1"), (2.0, "0.2")):
        AuditTrail(engine).append(AuditEvent.APPLICATION_STARTED, who="node", what={"version": version}, at=at)
    assert Overview(engine).last_start() == Started(at=2.0, version="0.2")


def test_sources_that_never_sent_and_destinations_that_are_gone_are_shown(clinic, engine, tmp_path):
    clinic.finish("1")
    there = {"name": "new", "ae_title": "PACS", "host": "h", "port": 104}
    found = status_of(settings_of(tmp_path, sources=[{"ae_title": "MR1"}], destinations=[there]), engine)
    assert found["sources"] == [
        {"ae_title": "MR1", "last_instance_at": None},
        {"ae_title": "CT", "last_instance_at": 1000.0},
    ]
    assert [(row["name"], row["delivered"], row["configured"]) for row in found["destinations"]] == [
        ("new", 0, True),
        ("pacs", 1, False),
    ]
    assert found["jobs"]["done"] == 1
    assert found["disk"]["free_bytes"] > 0
    assert {k: found["bundles"][0][k] for k in ("pipeline", "name")} == {"pipeline": "hematoma", "name": "hematoma"}


def test_a_destination_that_fails_is_shown_with_its_last_error_and_its_next_attempt(clinic, engine, tmp_path):
    clinic.receive("1")
    clinic.decide("1")
    clinic.analyse()
    [delivery] = clinic.outbox.due("pacs", at=clinic.now)
    clinic.outbox.postponed(delivery, status=None, error="no route to host", until=1600.0)
    configured = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104}
    settings = settings_of(tmp_path, destinations=[configured])
    lines = list(_status_lines(status_of(settings, engine), now=1000.0))
    pacs = next(number for number, (_, said) in enumerate(lines) if said.startswith("pacs: 1 open"))
    assert lines[pacs + 1] == ("", "last error: no route to host (job 1)")
    assert re.fullmatch(r"next attempt: .* \(in 10 min\); sooner: ichnode destinations retry pacs", lines[pacs + 2][1])


def configured(tmp_path, port=0):
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[node]\nport = 0\nhost = "127.0.0.1"\ndata_dir = "{tmp_path}"\n[web]\nport = {port}\n')
    return str(file)


def test_without_a_ledger_and_a_node_it_says_so_and_fails(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    said = CliRunner().invoke(app, ["status", "--config", configured(tmp_path, port)])
    assert said.exit_code == 1
    assert f"ready        NO: no answer from 127.0.0.1:{port}: " in said.stdout
    assert "jobs         none" in said.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["ichnode.toml"]


def test_a_running_node_is_ready_and_is_not_migrated_or_written(tmp_path):
    from ichnode.node import Node

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    node = Node(settings_of(tmp_path, web={"port": port}))
    node.start()
    try:
        said = CliRunner().invoke(app, ["status", "--config", configured(tmp_path, port)])
        as_json = CliRunner().invoke(app, ["status", "--json", "--config", configured(tmp_path, port)])
    finally:
        node.stop()
    assert said.exit_code == 0, said.output
    assert "ready        yes" in said.stdout
    assert "last start 2" in said.stdout
    found = json.loads(as_json.stdout)
    assert found["ready"]
    assert found["parts"]["listener"] == "ok"


def test_a_ledger_of_another_form_is_one_line_and_stays_as_it_is(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/ichnode.db")
    with engine.begin() as db:
        db.execute(text("DROP TABLE deliveries"))
    engine.dispose()
    said = CliRunner().invoke(app, ["status", "--config", configured(tmp_path)])
    assert said.exit_code == 1
    assert said.stderr.startswith(f"database.url: sqlite:///{tmp_path}/ichnode.db cannot be read: no such table")
    assert said.stderr.count("\n") == 1
