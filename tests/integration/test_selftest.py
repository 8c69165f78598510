"""`ichnode selftest` tells right results from wrong ones, and leaves the site alone."""

import copy
import json
import socket
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from ichnode import selftest
from ichnode.cli import app
from ichnode.config import Settings
from ichnode.doctor import Level
from ichnode.domain.job import JobState
from ichnode.rehearsal import rehearse
from ichnode.results.provenance import SERIES_DESCRIPTIONS, Role
from ichnode.selftest import check_page, check_report, check_run, check_segmentation, scratch_sections
from ichnode.simulated_patient import simulated_patient

WRITTEN = ("segmentation", "measurement_report", "outline_report", "summary_page")


@pytest.fixture(scope="module")
def patient():
    return simulated_patient()


@pytest.fixture(scope="module")
def came_back(patient, tmp_path_factory):
    """One rehearsal with the hematoma pipeline alone."""
    source, received = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("received")
    sections, told = {"rules": [{"name": "r", "run": ["hematoma"]}]}, []

    def tell(doing, done=0, total=None):
        told.append((doing, done, total))

    with rehearse(patient, sections, source=source, received=received, tell=tell) as run:
        assert {"starting a node", "analysing"} <= {doing for doing, _, _ in told}
        assert ("sending slices", 32, 32) in told
        return run


@pytest.fixture
def datasets(came_back):
    """What came back, by role, to be changed."""
    return {role: dcmread(came_back.series[SERIES_DESCRIPTIONS[Role(role)]][0]) for role in WRITTEN}


def failures(checks):
    return {check.name: check.detail for check in checks if check.level is Level.FAILURE}


def test_what_comes_back_from_a_sound_installation_passes(came_back, patient):
    checks = list(check_run(came_back, patient, wanted=WRITTEN))
    assert failures(checks) == {}
    assert [check.name for check in checks] == [
        "send",
        "analysis",
        "hematoma",
        "series",
        "Hematoma segmentation",
        "Hematoma measurements",
        "Summary page",
    ]


def test_a_job_that_failed_or_did_not_end_is_told(came_back, patient):
    failed = replace(came_back.job, state=JobState.FAILED, reason="deadline", detail="120 s")
    assert failures(check_run(replace(came_back, job=failed), patient, wanted=WRITTEN)) == {
        "analysis": "the job is failed: deadline: 120 s"
    }
    assert failures(check_run(replace(came_back, job=None), patient, wanted=WRITTEN)) == {
        "analysis": "no job was opened"
    }


def test_a_hematoma_that_is_overlooked_or_measured_wrong_is_told(came_back, patient):
    none = replace(came_back.job, findings={"hematoma": None})
    half = replace(came_back.job, findings={"hematoma": {"volume_ml": patient.hematoma_ml / 2}})
    assert "none was found" in failures(check_run(replace(came_back, job=none), patient, wanted=WRITTEN))["hematoma"]
    assert "(-50%)" in failures(check_run(replace(came_back, job=half), patient, wanted=WRITTEN))["hematoma"]


def test_a_series_that_did_not_come_back_is_told(came_back, patient):
    series = {name: files for name, files in came_back.series.items() if "Summary" not in name}
    said = failures(check_run(replace(came_back, series=series), patient, wanted=WRITTEN))["series"]
    assert said == "3 series, 3 of 4 results came back; without summary_page"


def test_a_segmentation_beside_the_hematoma_is_told(datasets, patient):
    elsewhere = replace(patient, hematoma=np.roll(patient.hematoma, 60, axis=2))
    assert check_segmentation(datasets["segmentation"], patient).level is Level.OK
    assert check_segmentation(datasets["segmentation"], elsewhere).level is Level.FAILURE


def test_a_frame_off_its_slice_or_of_another_study_is_told(datasets, patient):
    moved, foreign = copy.deepcopy(datasets["segmentation"]), copy.deepcopy(datasets["segmentation"])
    moved.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    groups = foreign.PerFrameFunctionalGroupsSequence[0]
    groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    assert "its slice elsewhere" in check_segmentation(moved, patient).detail
    assert check_segmentation(foreign, patient).detail == "a frame refers to 1.2.3, which was not sent"


def test_a_report_with_another_number_than_the_segmentation_is_told(datasets, patient):
    report, segmentation = datasets["measurement_report"], datasets["segmentation"]
    assert check_report(report, segmentation, patient).level is Level.OK
    _first_volume(report).MeasuredValueSequence[0].NumericValue = "12.0"
    assert check_report(report, segmentation, patient).detail.startswith("12.00 mL, the segmentation has ")
    assert check_report(datasets["outline_report"], segmentation, patient).level is Level.OK
    report.ContentSequence = []
    assert check_report(report, segmentation, patient).detail == "says no volume"


def _first_volume(item):
    for child in item.get("ContentSequence", ()):
        if child.ValueType == "NUM" and child.ConceptNameCodeSequence[0].CodeValue == "118565006":
            return child
        if (found := _first_volume(child)) is not None:
            return found
    return None


def test_a_blank_page_is_told(datasets):
    page = datasets["summary_page"]
    assert check_page(page).level is Level.OK
    page.PixelData = bytes(len(page.PixelData))
    assert check_page(page).detail.endswith("blank")


def test_the_node_of_the_test_has_nothing_of_the_site_but_models_and_results():
    settings = Settings.model_validate(
        {
            "node": {"ae_title": "SITE"},
            "sources": [{"ae_title": "CT1", "host": "10.0.0.1"}],
            "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "10.0.0.5", "port": 104}],
            "database": {"url": "sqlite:////var/lib/ichnode/ichnode.db"},
            "audit": {"host": "10.0.0.6"},
            "results": {"report_sop": "enhanced"},
            "rules": [
                {"name": "a", "run": ["hematoma", "followup"], "match": {"StationName": "X"}},
                {"name": "b", "run": ["hematoma", "followup_after_thrombectomy"]},
            ],
        }
    )
    sections = scratch_sections(settings)
    assert set(sections) == {"node", "inference", "results", "clinical", "rules"}
    assert sections["node"] == {"ae_title": "SITE"}
    assert sections["rules"] == [{"name": "selftest", "run": ("hematoma", "followup")}]
    assert sections["results"]["report_sop"] == "enhanced"
    assert Settings.model_validate(sections).results == settings.results


def configured(tmp_path, port=0, text=""):
    file = tmp_path / "ichnode.toml"
    file.write_text(
        f'[node]\nport = {port}\nhost = "127.0.0.1"\ndata_dir = "{tmp_path / "data"}"\n[web]\nport = 0\n{text}'
    )
    return str(file)


@pytest.fixture
def rehearsed(came_back, monkeypatch):
    """The command with the rehearsal that was made already."""

    @contextmanager
    def again(patient, sections, *, source, received, timeout_s, tell):
        for number, dataset in enumerate(patient.datasets):
            dataset.save_as(source / f"{number}.dcm", enforce_file_format=True)
        yield came_back

    monkeypatch.setattr(selftest, "rehearse", again)


@pytest.mark.usefixtures("rehearsed")
def test_the_command_prints_checks_and_times_and_leaves_the_data_folder_alone(tmp_path):
    said = CliRunner().invoke(app, ["selftest", "--config", configured(tmp_path)])
    assert said.exit_code == 0, said.output
    for word in ("32 instances were taken", "last image to last result", "passed: what came back is right", "head-ct"):
        assert word in said.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("rehearsed")
def test_rules_for_other_series_are_a_warning(tmp_path):
    rules = '[[rules]]\nname = "site"\nmatch = { StationName = "CT1" }\nrun = ["hematoma"]\n'
    said = CliRunner().invoke(app, ["selftest", "--json", "--config", configured(tmp_path, text=rules)])
    found = {check["name"]: check for check in json.loads(said.stdout)["checks"]}
    assert said.exit_code == 0
    assert found["rules"]["level"] == "warning"
    assert "rule site wants StationName" in found["rules"]["detail"]


@pytest.mark.usefixtures("rehearsed")
def test_a_running_node_that_does_not_run_fails_and_one_that_admits_nobody_from_here_says_so(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    silent = CliRunner().invoke(app, ["selftest", "--running", "--json", "--config", configured(tmp_path, port)])
    assert silent.exit_code == 1
    check = json.loads(silent.stdout)["checks"][0]
    assert (check["name"], check["level"]) == ("running node", "failure")
    assert "Connection refused" in check["detail"]
    sources = '[[sources]]\nae_title = "CT1"\nhost = "10.0.0.0/24"\n'
    shut = CliRunner().invoke(app, ["selftest", "--running", "--config", configured(tmp_path, port, sources)])
    assert shut.exit_code == 0
    assert "[[sources]] admits no AE title from this machine" in " ".join(shut.stdout.split())


def test_a_bundle_that_is_not_there_is_one_line(tmp_path):
    config = configured(tmp_path, text='[inference]\nhematoma_bundle = "none"\n')
    said = CliRunner().invoke(app, ["selftest", "--config", config])
    assert said.exit_code == 1
    assert said.stderr.startswith("the node of the self-test cannot run: inference.hematoma_bundle: there is no bundle")
    assert said.stderr.count("\n") == 1
