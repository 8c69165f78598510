"""`ichnode judgements`, for whoever improves a model."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.audit import pseudonym
from ichnode.domain.judgement import Opinion, RejectReason, Verdict
from tests.judgement_factory import ACCEPTED, JudgedClinic

FORMULA = Opinion(verdict=Verdict.REJECTED, reason=RejectReason.OTHER, comment="=HYPERLINK(1)", corrected_ml=36.0)


@pytest.fixture
def config(sqlite_engine, tmp_path):
    clinic = JudgedClinic(sqlite_engine, tmp_path / "store")
    job = clinic.analysed()
    clinic.deliver()
    clinic.judgements.record(job.id, ACCEPTED, who="web: ben at ::1", at=0.0, withdraw=False)
    clinic.judgements.record(job.id, FORMULA, who="web: anna [b]x at ::1", at=60.0, withdraw=True)
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/ichnode.db"\n')
    return file


def run(*words):
    done = CliRunner().invoke(app, ["judgements", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_list_tells_how_often_people_agree_with_a_model(config):
    shown = run("list", "--config", config)
    assert "0%" in shown
    assert "-4.5 mL" in shown
    assert "anna [b]x" in shown  # as it is, and not as markup
    assert "ben" not in shown  # a later judgement counts


def test_an_export_has_every_judgement_and_no_uid_unless_asked_for(config):
    first, second = csv.DictReader(io.StringIO(run("export", "--config", config)))
    assert (first["verdict"], first["newest"], first["corrected_ml"]) == ("accepted", "false", "")
    assert (second["verdict"], second["newest"], second["withdrawn"]) == ("rejected", "true", "true")
    assert (second["predicted_ml"], second["corrected_ml"]) == ("31.5", "36.0")
    assert (second["study"], second["at"]) == (pseudonym("1"), "1970-01-01T00:01:00+00:00")
    assert second["comment"] == "'=HYPERLINK(1)"  # no formula for a spreadsheet
    assert next(csv.DictReader(io.StringIO(run("export", "--uids", "--config", config))))["study"] == "1"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("delivered", "next       nothing: the results are withdrawn"),
        ("refused", "next       the rejection note was not taken; once it can be: ichnode jobs retry 1"),
    ],
)
def test_what_to_do_about_withdrawn_results_is_to_have_their_note_taken(sqlite_engine, tmp_path, note, said):
    clinic = JudgedClinic(sqlite_engine, tmp_path / "store")
    job = clinic.analysed()
    clinic.deliver()
    clinic.reject(job)
    clinic.withdrawing.turn()
    [delivery] = clinic.outbox.due("pacs", at=clinic.now)
    answered = {"status": 0} if note == "delivered" else {"status": 0x0122, "error": "0x0122"}
    getattr(clinic.outbox, note)(delivery, **answered, at=clinic.now)
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/ichnode.db"\n')
    shown = CliRunner().invoke(app, ["jobs", "show", "1", "--config", str(file)]).output
    assert "rejected by a person; the results are withdrawn" in shown
    assert said in shown


def test_an_export_as_json_goes_into_a_file(config, tmp_path):
    run("export", "--format", "json", "--out", tmp_path / "said.json", "--config", config)
    said = json.loads((tmp_path / "said.json").read_text())
    assert (
        said["agreement"][0] | {"judged": 1, "accepted": 0, "rate": 0.0, "mean_error_ml": -4.5} == said["agreement"][0]
    )
    assert [judgement["comment"] for judgement in said["judgements"]] == ["", "=HYPERLINK(1)"]
    assert json.loads(run("list", "--json", "--config", config)) == said


def test_without_a_ledger_it_says_so(tmp_path):
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/none.db"\n')
    done = CliRunner().invoke(app, ["judgements", "list", "--config", str(file)])
    assert done.exit_code == 1
    assert not (tmp_path / "none.db").exists()
