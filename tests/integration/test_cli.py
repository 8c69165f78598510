"""The command line as a person types it."""

import json
from dataclasses import replace

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from ichnode import __version__
from ichnode.cli import app
from ichnode.phantom import REGULAR, head_ct

SMALL = replace(REGULAR, rows=128, columns=128)


def ichnode(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


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
    assert ichnode("check", "--config", file).output == "valid\n"
    assert ichnode("init", file).exit_code == 1


def test_check_tells_section_key_and_reason(tmp_path):
    file = tmp_path / "ichnode.toml"
    file.write_text('[node]\nport = "x"\n[inference]\nhematoma_bundle = "none"')
    outcome = ichnode("check", "--config", file)
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith("node.port: ")
    file.write_text('[inference]\nhematoma_bundle = "none"')
    assert "inference.hematoma_bundle: there is no bundle 'none'" in ichnode("check", "--config", file).stdout


def test_models_are_listed_and_verified():
    (bundle,) = json.loads(ichnode("models", "list", "--json").output)
    assert (bundle["name"], bundle["trained_on"]) == ("hematoma-baseline", "nothing")
    assert ichnode("models", "verify").output.startswith("hematoma-baseline: verified ")


def test_an_altered_bundle_does_not_verify(tmp_path):
    import shutil

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
    assert {f.name for f in folder.iterdir()} == {
        "segmentation.dcm",
        "measurement_report.dcm",
        "outline_report.dcm",
        "summary_page.dcm",
        "findings.json",
    }
    findings = json.loads((folder / "findings.json").read_text())["findings"]
    assert findings["hematoma"]["volume_ml"] == pytest.approx(30, rel=0.15)
    assert dcmread(folder / "segmentation.dcm").Modality == "SEG"


def test_analyze_says_why_nothing_was_analysed(tmp_path):
    (tmp_path / "notes.txt").write_text("no DICOM")
    outcome = ichnode("analyze", tmp_path, "--out", tmp_path / "out")
    assert outcome.exit_code == 1
    assert "notes.txt: not read" in outcome.output


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
    from ichnode.domain.job import JobState
    from ichnode.domain.study import Instance
    from ichnode.storage.intake import Intake
    from ichnode.storage.ledger import Ledger, PlannedJob
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
    plan = PlannedJob(
        series_instance_uid="1.1",
        state=JobState.READY,
        decision="analyse",
        reason="chosen",
        detail="",
        rule="r",
        run=("hematoma",),
        send_to=(),
        priority="stat",
        report_ignored=False,
        input_sha256="x",
    )
    Ledger(engine).record_decisions("1", [plan], last_instance_id=1, last_received_at=0, evidence="quiet", at=0)
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path}"')
    (job,) = json.loads(ichnode("jobs", "list", "--config", file, "--json").output)
    assert (job["state"], job["evidence"]) == ("ready", "quiet")
    assert "chosen" in ichnode("jobs", "list", "--config", file).output
    assert "events" in ichnode("jobs", "show", 1, "--config", file).output
    assert ichnode("jobs", "show", 2, "--config", file).exit_code == 1
    assert ichnode("jobs", "drop", 1, "--config", file).output == "job 1 is dropped\n"
    assert ichnode("jobs", "drop", 1, "--config", file).exit_code == 1
    assert json.loads(ichnode("jobs", "retry", 1, "--config", file, "--json").output) == {"id": 1, "state": "ready"}
