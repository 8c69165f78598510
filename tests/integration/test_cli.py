"""The command line as a person types it."""

import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from ichnode import __version__
from ichnode.cli import app
from ichnode.config import Settings
from ichnode.demo import _misses
from ichnode.domain.job import JobState
from ichnode.phantom import REGULAR, head_ct
from ichnode.results.provenance import SERIES_DESCRIPTIONS
from ichnode.storage.audit import AuditTrail
from ichnode.user import user_name
from tests.planned_job import planned_job

SMALL = replace(REGULAR, rows=128, columns=128)


def ichnode(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def configure(tmp_path):
    """Writes a configuration with free ports and the data below tmp_path."""

    def configure(text="", *, node="port = 0", web="port = 0", data_dir=tmp_path / "data"):
        file = tmp_path / "ichnode.toml"
        file.write_text(f'[node]\nhost = "127.0.0.1"\ndata_dir = "{data_dir}"\n{node}\n[web]\n{web}\n{text}')
        return file

    return configure


@pytest.fixture
def taken_port():
    """A loopback port that someone else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A folder with a phantom head CT."""
    folder = tmp_path_factory.mktemp("head")
    for number, dataset in enumerate(head_ct(hematoma_ml=30, geometry=SMALL, seed=5).datasets):
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def test_version():
    assert ichnode("--version").output == f"ichnode {__version__}\n"


def test_init_writes_an_example_that_check_finds_valid_and_never_overwrites(tmp_path):
    file = tmp_path / "ichnode.toml"
    assert ichnode("init", file).exit_code == 0
    outcome = ichnode("check", "--config", file)
    assert outcome.exit_code == 0
    assert outcome.output == "valid, but without [[destinations]] no result leaves this machine\n"
    found = json.loads(ichnode("check", "--config", file, "--json").output)
    assert found == {"valid": True, "problems": [], "doubts": [outcome.output.removeprefix("valid, but ").strip()]}
    assert ichnode("init", file).exit_code == 1


def test_check_tells_section_key_and_reason(tmp_path):
    file = tmp_path / "ichnode.toml"
    file.write_text('[node]\nport = "x"\n[inference]\nhematoma_bundle = "none"')
    outcome = ichnode("check", "--config", file)
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith("node.port: ")
    found = json.loads(ichnode("check", "--config", file, "--json").output)
    assert (found["valid"], len(found["problems"]), found["doubts"]) == (False, 1, [])
    file.write_text('[inference]\nhematoma_bundle = "none"')
    assert "inference.hematoma_bundle: there is no bundle 'none'" in ichnode("check", "--config", file).stdout


def test_check_tells_what_is_wrong_in_the_clinical_table(tmp_path):
    file, table = tmp_path / "ichnode.toml", tmp_path / "clinical.csv"
    file.write_text(f'[clinical]\nfile = "{table}"')
    assert "clinical.file: " in ichnode("check", "--config", file).stdout
    table.write_text("accession,gcs\nA1,99\n")
    outcome = ichnode("check", "--config", file)
    assert outcome.exit_code == 1
    assert "line 2: gcs" in outcome.stdout
    table.write_text("accession,gcs\nA1,9\n")
    assert ichnode("check", "--config", file).exit_code == 0


def test_check_names_files_of_tls_and_web_that_are_not_there(configure, tmp_path):
    tls = [f'{key} = "{tmp_path / key}"' for key in ("certificate", "key", "trusted")]
    web = f'port = 0\ntoken_file = "{tmp_path / "token"}"'
    outcome = ichnode("check", "--config", configure("\n".join(["[tls]", *tls, ""]), web=web))
    assert outcome.exit_code == 0
    for key in ("tls.certificate", "tls.key", "tls.trusted", "web.token_file"):
        assert f"{key}: {tmp_path}/{key.partition('.')[2].removesuffix('_file')}: No such file" in outcome.output


def test_check_names_a_token_file_that_is_not_there(configure, tmp_path):
    missing = tmp_path / "token"
    file = configure(f'[[destinations]]\nname = "web"\nurl = "https://h/dicom-web"\ntoken_file = "{missing}"\n')
    outcome = ichnode("check", "--config", file)
    assert outcome.exit_code == 0
    assert outcome.output == f"valid, but destinations.0.token_file: {missing}: No such file or directory\n"


@pytest.mark.parametrize("command", [["check"], ["models", "list"], ["models", "verify"]])
def test_a_missing_bundles_dir_is_one_line(configure, command):
    outcome = ichnode(*command, "--config", configure('[inference]\nbundles_dir = "/nowhere"'))
    assert outcome.exit_code == 1
    assert outcome.output == "inference.bundles_dir: no such folder: /nowhere\n"


def test_models_list_names_a_manifest_that_is_not_json(configure, tmp_path):
    (tmp_path / "bundles" / "mine").mkdir(parents=True)
    (tmp_path / "bundles" / "mine" / "manifest.json").write_text("not JSON")
    outcome = ichnode("models", "list", "--config", configure(f'[inference]\nbundles_dir = "{tmp_path}/bundles"'))
    assert "manifest.json is not understood: Invalid JSON" in outcome.stderr
    assert "hematoma-baseline" in outcome.stdout


def test_check_starts_without_what_only_a_running_node_needs():
    heavy = "{'highdicom', 'pynetdicom', 'uvicorn', 'ichnode.node'} & set(sys.modules)"
    script = f"import sys\nfrom ichnode.cli import app\napp(['check'], standalone_mode=False)\nprint(sorted({heavy}))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "valid, but without [[destinations]] no result leaves this machine\n[]\n"


def test_serve_names_the_web_port_that_is_taken(configure, taken_port):
    outcome = ichnode("serve", "--config", configure(web=f"port = {taken_port}"))
    assert outcome.exit_code == 1
    assert outcome.stderr == f"web.port: cannot listen on 127.0.0.1:{taken_port}: Address already in use\n"


def test_serve_names_the_dicom_port_that_is_taken(configure, taken_port):
    outcome = ichnode("serve", "--config", configure(node=f"port = {taken_port}"))
    assert outcome.exit_code == 1
    assert outcome.stderr == f"node.port: cannot listen on 127.0.0.1:{taken_port}: Address already in use\n"


def test_serve_names_a_data_dir_that_it_cannot_write(configure, tmp_path):
    (tmp_path / "file").touch()
    outcome = ichnode("serve", "--config", configure(data_dir=tmp_path / "file" / "data"))
    assert outcome.exit_code == 1
    assert outcome.stderr == f"node.data_dir: cannot write {tmp_path}/file/data: Not a directory\n"


@pytest.mark.parametrize("command", [["serve"], ["jobs", "list"]])
@pytest.mark.parametrize("trouble", ["newer", "no database", "a folder"])
def test_a_ledger_that_cannot_be_used_is_one_line(configure, tmp_path, command, trouble):
    file = tmp_path / "data" / "ichnode.db"
    file.parent.mkdir()
    if trouble == "newer":
        with closing(sqlite3.connect(file)) as ledger, ledger:
            ledger.execute("CREATE TABLE alembic_version (version_num TEXT)")
            ledger.execute("INSERT INTO alembic_version VALUES ('of the future')")
    elif trouble == "no database":
        file.write_text("a letter to the editor " * 100)
    else:
        file.mkdir()
    outcome = ichnode(*command, "--config", configure())
    assert outcome.exit_code == 1, outcome.exception
    said = "has the form of the future, " if "serve" not in command and trouble == "newer" else "cannot be "
    assert outcome.stderr.startswith(f"database.url: sqlite:///{file} {said}")
    assert outcome.stderr.count("\n") == 1


def test_models_are_listed_and_verified():
    trained_on = {
        bundle["name"]: bundle["trained_on"] for bundle in json.loads(ichnode("models", "list", "--json").output)
    }
    assert trained_on["hematoma-baseline"] == "nothing"
    assert "simulated patients" in trained_on["hematoma"]
    verified = ichnode("models", "verify").output.splitlines()
    assert [line.split(" ")[:2] for line in verified] == [[f"{name}:", "verified"] for name in sorted(trained_on)]


def test_an_altered_bundle_does_not_verify(tmp_path):
    from ichnode.inference.bundle import shipped_bundles

    shutil.copytree(shipped_bundles() / "hematoma-baseline", tmp_path / "bundles" / "mine")
    weights = tmp_path / "bundles" / "mine" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[inference]\nbundles_dir = "{tmp_path / "bundles"}"')
    assert ichnode("models", "verify", "--config", file).exit_code == 1


def test_analyze_writes_results_and_findings_without_a_network(head, tmp_path):
    outcome = ichnode("analyze", head, "--out", tmp_path / "out")
    assert outcome.exit_code == 0, outcome.output
    folder = tmp_path / "out" / "series-2"
    results = {f.stem.rstrip("-0123456789") for f in folder.iterdir() if f.suffix == ".dcm"}
    forecasts = {"predicted_segmentation", "predicted_series", "prediction_report"}
    assert {"segmentation", "measurement_report", "outline_report", "summary_page"} <= results
    assert {name for name in results if not name.endswith("_saliency")} - forecasts <= {
        "segmentation",
        "measurement_report",
        "outline_report",
        "summary_page",
    }
    findings = json.loads((folder / "findings.json").read_text())["findings"]
    assert findings["hematoma"]["volume_ml"] == pytest.approx(30, rel=0.15)
    assert dcmread(folder / "segmentation.dcm").Modality == "SEG"


def test_analyze_without_the_wanted_gpu_is_one_line(head, configure, tmp_path):
    config = configure('[inference]\ndevice = "cuda:7"')
    outcome = ichnode("analyze", head, "--out", tmp_path / "out", "--config", config)
    assert outcome.exit_code == 1
    assert outcome.stderr == "error: this machine has no device cuda:7\n"


@pytest.mark.parametrize("problem", [OSError("the disk is gone"), ValueError("a number is none")])
def test_a_series_that_breaks_does_not_end_the_folder(head, monkeypatch, tmp_path, problem):
    from ichnode.node import analyser_settings
    from ichnode.stages import offline
    from ichnode.stages.analyser import AnalyserSettings, Analysis
    from ichnode.stages.folder import read_folder

    for file in head.iterdir():
        dataset = dcmread(file)
        dataset.StudyInstanceUID += ".1"
        dataset.SeriesInstanceUID += ".1"
        dataset.SOPInstanceUID += ".1"
        dataset.save_as(tmp_path / file.name)
        shutil.copy(file, tmp_path / f"first-{file.name}")
    answers = iter([problem, Analysis(objects=(), findings={}, seconds={}, model="", device="cpu")])

    def analyse(request):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(AnalyserSettings, "__call__", lambda self: analyse)
    reports = offline.analyze_folder(
        read_folder(tmp_path),
        tmp_path / "out",
        rules=Settings().decision_rules,
        analyser=analyser_settings(Settings()),
        config_sha256="",
    )
    broken, whole = [report.text for report in reports]
    assert broken == f"series 2: failed: {problem}"
    assert whole.startswith("series 2: no hematoma found")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_explain_lists_the_files_that_it_cannot_read(head, tmp_path, options):
    shutil.copytree(head, tmp_path / "head")
    (tmp_path / "notes.txt").write_text("no DICOM")
    outcome = ichnode("explain", tmp_path, *options)
    assert outcome.stderr.startswith(f"{tmp_path / 'notes.txt'}: not read: is no DICOM file")
    assert outcome.stderr.count("\n") == 1
    assert "chosen" in outcome.stdout
    if options:
        assert len(json.loads(outcome.stdout)) == 1


def test_explain_says_where_there_is_nothing_to_explain(tmp_path):
    outcome = ichnode("explain", tmp_path)
    assert outcome.stderr == f"{tmp_path}: holds no DICOM series\n"


def test_the_demo_misses_results_by_the_name_of_their_series():
    received = set(SERIES_DESCRIPTIONS.values())
    job = SimpleNamespace(state=JobState.DONE, findings={"hematoma": {"volume_ml": 30.0}})
    assert _misses(job, received, 30.0) == []
    assert _misses(job, received - {"AI RESEARCH: Summary page"}, 30.0) == ["not received: AI RESEARCH: Summary page"]


def test_the_demo_on_a_machine_that_is_too_slow_says_so_instead_of_an_overlooked_hematoma():
    [miss] = _misses(SimpleNamespace(state=JobState.ANALYSING, findings=None), set(), 30.0)
    assert miss == "not finished after 600 s, the job is analysing: this machine is too slow, or too busy now"


def test_the_demo_names_its_folder_once_and_the_first_file_of_each_series(tmp_path):
    outcome = ichnode("demo", "--out", tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.count(str(tmp_path)) == 1
    received = {f.name.split("-", 1)[1]: f.name for f in sorted((tmp_path / "results").iterdir(), reverse=True)}
    assert set(received.values()) <= set(outcome.stdout.split())


def test_the_demo_can_be_reviewed_until_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "ichnode", "demo", "--out", tmp_path, "--review"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            page = next(line for line in demo.stdout if line.startswith("review it: ")).split()[-1]
            answer = httpx.get(page, trust_env=False)
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0
        finally:
            demo.kill()
    assert answer.status_code == 200
    assert "Predicted follow-up" in answer.text


def test_analyze_says_why_nothing_was_analysed(tmp_path):
    (tmp_path / "notes.txt").write_text("no DICOM")
    outcome = ichnode("analyze", tmp_path, "--out", tmp_path / "out")
    assert outcome.exit_code == 1
    assert "notes.txt: not read" in outcome.output
    as_json = ichnode("analyze", tmp_path, "--out", tmp_path / "out", "--json")
    (report,) = json.loads(as_json.stdout)
    assert (as_json.exit_code, report["outcome"], report["folder"]) == (1, "not read", None)


def test_health_tells_programs_why_no_node_is_ready(configure, taken_port):
    outcome = ichnode("health", "--json", "--config", configure(web=f"port = {taken_port}"))
    found = json.loads(outcome.stdout)
    assert (outcome.exit_code, found["ready"]) == (1, False)
    assert found["problems"][0].startswith(f"no answer from 127.0.0.1:{taken_port}")


def test_of_the_real_phantom_study_one_series_is_chosen_and_the_others_have_their_own_reasons(test_data, tmp_path):
    rules = tmp_path / "geometry.toml"
    rules.write_text(
        '[[rules]]\nname = "brain"\n'
        "match = { thickness = { range = [3, 6] }, spacing = { range = [3, 6] }, coverage = { range = [100, 200] } }"
    )
    rows = json.loads(ichnode("explain", test_data / "philips_phantom_study", "--config", rules, "--json").output)
    found = {row["series_number"]: (row["decision"], row["rule"], row["reason"]) for row in rows}
    assert found == {
        100: ("ignore", None, "localizer"),
        201: ("analyse", "brain", "chosen"),
        203: ("ignore", "brain", "bone_kernel"),
        401: ("ignore", None, "not_ct_image"),
    }
    assert next(row for row in rows if row["series_number"] == 201)["gate"].startswith("no_brain: ")


def test_explain_prints_a_row_for_every_series(test_data):
    text = ichnode("explain", test_data / "philips_phantom_study").output
    for word in ("localizer", "chosen", "bone_kernel", "not_ct_image", "no_brain"):
        assert word in text


def test_the_tilted_irregular_real_head_is_analysed(test_data, tmp_path):
    outcome = ichnode("analyze", test_data / "ge_head_nct", "--out", tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert "no hematoma found" in outcome.output


def test_jobs_without_a_ledger_says_so(tmp_path):
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path / "none"}"')
    outcome = ichnode("jobs", "list", "--config", file)
    assert outcome.exit_code == 1
    assert "there is no ledger" in outcome.stderr


def test_jobs_are_listed_shown_dropped_and_retried(tmp_path):
    from ichnode.domain.study import Instance
    from ichnode.storage.intake import Intake
    from ichnode.storage.ledger import Ledger
    from ichnode.storage.schema import open_engine

    engine = open_engine(f"sqlite:///{tmp_path}/ichnode.db")
    intake = Intake(engine)
    association = intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=0)
    instance = Instance(
        sop_instance_uid="1.2",
        sop_class_uid="1.3",
        series_instance_uid="1.1",
        study_instance_uid="1",
        transfer_syntax_uid="1.4",
        file="/f",
        header={},
        association_id=association,
    )
    intake.keep(instance, sha256="a", size_bytes=1)
    plan = planned_job("1.1", send_to=(), priority="stat")
    Ledger(engine).record_decisions("1", [plan], last_instance_id=1, last_received_at=0, evidence="quiet", at=0)
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path}"')
    (job,) = json.loads(ichnode("jobs", "list", "--config", file, "--json").output)
    assert (job["state"], job["evidence"]) == ("ready", "quiet")
    assert "chosen" in ichnode("jobs", "list", "--config", file).output
    assert "events" not in ichnode("jobs", "show", 1, "--config", file).output
    assert "events" in ichnode("jobs", "show", 1, "--all", "--config", file).output
    assert ichnode("jobs", "show", 2, "--config", file).exit_code == 1
    assert ichnode("jobs", "drop", 1, "--config", file).output == "job 1 is dropped\n"
    ended = [row.who for row in AuditTrail(engine).rows() if row.event == "job_ended"]
    assert ended[-1].startswith(f"command line: {user_name()}")
    assert ichnode("jobs", "drop", 1, "--config", file).exit_code == 1
    assert json.loads(ichnode("jobs", "retry", 1, "--config", file, "--json").output) == {"id": 1, "state": "ready"}
    destinations_are_listed_and_reset(engine, file)


def destinations_are_listed_and_reset(engine, file):
    """The part of the test above that has a configured destination, which refuses a SOP class."""
    from ichnode.storage.refused_classes import RefusedClass, RefusedClasses

    text = '\n[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
    file.write_text(file.read_text() + text)
    refused = RefusedClass(
        destination="pacs", sop_class_uid="1.2.3", refused_at=0, job_id=1, status=0x0122, detail="0x0122"
    )
    RefusedClasses(engine).remember(refused)
    (row,) = json.loads(ichnode("destinations", "list", "--config", file, "--json").output)
    assert (row["name"], row["waiting"], row["refused_classes"][0]["status"]) == ("pacs", 0, "0x0122")
    assert "1.2.3" in ichnode("destinations", "list", "--config", file).output
    reset = ("destinations", "reset", "pacs", "--config", file)
    assert ichnode(*reset, "--sop-class", "1.2.4").output == "pacs is offered everything already\n"
    assert ichnode(*reset).output == "pacs is offered 1 SOP class again\n"
    assert json.loads(ichnode(*reset, "--json").output) == {"name": "pacs", "offered_again": 0}
    assert ichnode("destinations", "reset", "other", "--config", file).exit_code == 1


def test_what_is_asked_first_of_a_job_comes_first_and_a_destination_is_tried_now(sqlite_engine, tmp_path):
    from tests.finished_study import Clinic

    clinic = Clinic(sqlite_engine, tmp_path)
    hematoma = {"volume_ml": 30.24, "volume_low_ml": 28.0, "volume_high_ml": 33.0, "side": "left"}
    clinic.receive()
    clinic.decide(send_to=("pacs", "archive"))
    clinic.analyse(findings={"model": {"name": "m", "version": "1"}, "hematoma": hematoma})
    [delivery] = clinic.outbox.due("pacs", at=clinic.now)
    clinic.outbox.postponed(delivery, status=None, error="no route to host", until=time.time() + 601)
    file = tmp_path / "ichnode.toml"
    text = '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
    file.write_text(f'[node]\ndata_dir = "{tmp_path}"\n{text}')
    lines = ichnode("jobs", "show", 1, "--config", file).output.splitlines()
    assert len(lines) < 20
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        *("job", "reason", "decision", "series", "found", "delivery", "delivery", "next", "more")
    ]
    assert lines[0].startswith("job 1      delivering since ")
    said = "\n".join(lines)
    assert "Hematoma: 30.2 mL (28.0 to 33.0 mL)" in said
    assert re.search(
        r"pacs: 1 pending; last error: no route to host \(attempt 1\); next attempt: .* \(in 10 min\)", said
    )
    assert "archive: 1 pending; next attempt: now" in said
    assert "sooner by: ichnode destinations retry pacs" in said
    listed = ichnode("destinations", "list", "--config", file).output
    assert re.search(r"pacs +1 +never .*\(in 10 min\) +no route to host \(job 1\)", listed)
    retry = ("destinations", "retry", "pacs", "--config", file)
    assert ichnode(*retry).output == "pacs is tried now: 1 waiting\n"
    assert len(clinic.outbox.due("pacs", at=time.time())) == 1
    assert json.loads(ichnode(*retry, "--json").output) == {"name": "pacs", "due": 1}
    assert ichnode("destinations", "retry", "other", "--config", file).exit_code == 1
    clinic.now = time.time()
    clinic.deliver()
    for archived in clinic.outbox.of_job(1):
        if archived.destination == "archive":
            clinic.outbox.refused(archived, status=0x0122, error="0x0122", at=clinic.now)
    assert ichnode(*retry).output == "nothing waits for pacs\n"
    said = ichnode("jobs", "show", 1, "--config", file).output
    assert "job 1      failed" in said
    assert "archive: 1 refused; last error: 0x0122" in said
    assert "next       put right what the reason says, then: ichnode jobs retry 1" in said
