"""`ichnode replay` says what other rules would make of stored studies, and acts on none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.config import Settings, with_rules_of
from ichnode.errors import ConfigError
from ichnode.imaging.header import instance_from_file
from ichnode.phantom import REGULAR, head_ct
from ichnode.stages.decide import plan
from ichnode.stages.replay import Change, replay
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.schema import events, jobs, snapshots
from ichnode.storage.studies import Studies

SMALL = replace(REGULAR, rows=64, columns=64)


class Past:
    """A ledger with a head CT that was decided under the default rules at `at`."""

    def __init__(self, engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.intake, self.ledger = Intake(engine), Ledger(engine)

    def receive(self, *, at: float, seed=1, rules=None) -> str:
        association = self.intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=at)
        for number, dataset in enumerate(head_ct(hematoma_ml=0, geometry=SMALL, seed=seed).datasets):
            file = self.folder / f"{seed}-{number}.dcm"
            dataset.save_as(file, enforce_file_format=True)
            instance = replace(instance_from_file(file), association_id=association, received_at=at)
            self.intake.keep(instance, sha256=f"{seed}-{number}", size_bytes=file.stat().st_size)
        self.intake.close_association(association, ending="released", at=at)
        (waiting,) = self.intake.waiting_studies()
        uid, last = waiting.study_instance_uid, waiting.last_instance_id
        snapshot = self.intake.snapshot(uid, last_instance_id=last)
        planned = plan(snapshot, rules or Settings().decision_rules, results_sha256="x")
        self.ledger.record_decisions(uid, planned, last_instance_id=last, last_received_at=at, evidence="quiet", at=at)
        return uid

    def again(self, *rules, since=0.0):
        tables = [{"name": name, "match": match, "run": ["hematoma"]} for name, match in rules]
        decided = Settings.model_validate({"rules": tables}).decision_rules
        return list(replay(Studies(self.engine), self.intake, decided, since=since))


@pytest.fixture
def past(engine, tmp_path):
    return Past(engine, tmp_path)


def test_the_rules_of_then_change_nothing(past):
    past.receive(at=1000)
    (series,) = past.again(("head-ct", {}))
    assert (series.change, series.job_id) == (Change.SAME, 1)
    assert series.then == series.now
    assert series.trace == {"head-ct": ()}


def test_stricter_rules_stop_a_series_and_the_trace_says_by_which_clause(past):
    past.receive(at=1000)
    (series,) = past.again(("thin", {"thickness": {"range": [0, 2]}}))
    assert series.change is Change.STOPS
    assert (series.then.decision, series.now.decision) == ("analyse", "ignore")
    (said,) = series.trace["thin"]
    assert said.startswith("thickness is 5.0, wanted: thickness range ")


def test_a_looser_rule_starts_a_series(past):
    strict = Settings.model_validate({"rules": [{"name": "thin", "match": {"thickness": {"range": [0, 2]}}}]})
    past.receive(at=1000, rules=strict.decision_rules)
    assert [series.change for series in past.again(("all", {}))] == [Change.STARTS]
    assert [series.change for series in past.again(("bone", {"kernel_class": "bone"}))] == [Change.OTHER_REASON]


def test_a_rule_of_another_name_is_told(past):
    past.receive(at=1000)
    assert [series.change for series in past.again(("other", {}))] == [Change.OTHER_RULE]


def test_it_tells_how_far_it_is(past):
    told = []
    for seed in (1, 2):
        past.receive(at=1000, seed=seed)
    rules = Settings().decision_rules
    list(replay(Studies(past.engine), past.intake, rules, since=0.0, tell=lambda *said: told.append(said)))
    assert told == [("deciding studies", 0, 2), ("deciding studies", 1, 2)]


def test_only_studies_decided_since_then_are_replayed(past):
    past.receive(at=1000, seed=1)
    second = past.receive(at=2000, seed=2)
    assert [series.study_instance_uid for series in past.again(("head-ct", {}), since=1500)] == [second]


def test_a_study_whose_files_are_gone_is_told_as_such(past):
    past.receive(at=1000)
    for file in past.folder.glob("*.dcm"):
        file.unlink()
    (series,) = past.again(("site", {"BodyPartExamined": "HEAD"}))
    assert (series.change, series.now.detail) == (Change.NOT_HERE, "No such file or directory")


def test_nothing_is_opened_or_changed(past, engine):
    past.receive(at=1000)
    counts = select(*(select(func.count()).select_from(table).scalar_subquery() for table in (jobs, events, snapshots)))
    with engine.connect() as db:
        before = db.execute(counts).one()
    past.again(("other", {"thickness": {"range": [0, 2]}}))
    with engine.connect() as db:
        assert db.execute(counts).one() == before


def test_a_draft_is_read_for_its_rules_alone(tmp_path):
    there = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104}
    settings = Settings.model_validate({"destinations": [there], "node": {"ae_title": "SITE"}})
    draft = tmp_path / "draft.toml"
    draft.write_text('[node]\nae_title = "OTHER"\n[[rules]]\nname = "new"\nsend_to = ["pacs"]\n')
    changed = with_rules_of(settings, draft)
    assert (changed.node.ae_title, [rule.name for rule in changed.rules]) == ("SITE", ["new"])
    draft.write_text('[[rules]]\nname = "new"\nsend_to = ["elsewhere"]\n')
    with pytest.raises(ConfigError, match="no destination is named 'elsewhere'"):
        with_rules_of(settings, draft)
    draft.write_text('[[rules]]\nname = "new"\nmatch = { Thickness = { around = 5 } }\n')
    with pytest.raises(ConfigError, match=r"rules\.0\.match"):
        with_rules_of(settings, draft)
    draft.write_text("")
    with pytest.raises(ConfigError, match="has no"):
        with_rules_of(settings, draft)


def configure(file, engine, folder):
    url = engine.url.render_as_string(hide_password=False)
    file.write_text(f'[node]\ndata_dir = "{folder}"\n[database]\nurl = "{url}"\n')


def test_the_command_shows_what_changes_and_counts_the_rest(past, engine, tmp_path):
    past.receive(at=1_700_000_000, seed=1)
    past.receive(at=1_700_000_100, seed=2)
    file, draft = tmp_path / "ichnode.toml", tmp_path / "draft.toml"
    configure(file, engine, tmp_path)
    draft.write_text('[[rules]]\nname = "thin"\nmatch = { thickness = { range = [0, 2] } }\nrun = ["hematoma"]\n')
    command = ["replay", "--since", "2023-01-01", "--config", str(file)]
    same = CliRunner().invoke(app, command)
    assert (same.exit_code, same.stdout) == (0, "2 series: 2 same\n")
    changed = CliRunner().invoke(app, [*command, "--rules", str(draft)], env={"COLUMNS": "200"})
    assert changed.exit_code == 0
    assert changed.stdout.endswith("2 series: 2 stops\n")
    assert "analyse head-ct (chosen)" in " ".join(changed.stdout.split())
    found = json.loads(CliRunner().invoke(app, [*command, "--rules", str(draft), "--json"]).stdout)
    assert found["counts"]["stops"] == 2
    assert found["series"][0]["trace"]["thin"][0].startswith("thickness is ")
    none = CliRunner().invoke(app, ["replay", "--since", "2024-01-01", "--config", str(file)])
    assert none.stdout == "0 series\n"


def test_a_draft_that_is_wrong_is_one_line(past, engine, tmp_path):
    file = tmp_path / "ichnode.toml"
    configure(file, engine, tmp_path)
    said = CliRunner().invoke(app, ["replay", "--since", "2023-01-01", "--config", str(file), "--rules", "none.toml"])
    assert (said.exit_code, said.stderr) == (1, "none.toml: No such file or directory\n")
