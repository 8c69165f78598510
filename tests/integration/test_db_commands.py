"""`ichnode db` as an administrator types it."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from alembic.command import downgrade
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.storage.dialect import new_engine
from ichnode.storage.schema import _migrations, newest_form, open_engine


def ichnode(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def config(tmp_path):
    """A configuration whose data folder has an empty ledger."""
    file = tmp_path / "ichnode.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path}/data"')
    open_engine(f"sqlite:///{tmp_path}/data/ichnode.db").dispose()
    return file


def test_a_sound_store_exits_with_0_and_another_with_1(config, tmp_path):
    outcome = ichnode("db", "check", "--config", config)
    assert (outcome.exit_code, outcome.output) == (0, "sound: 0 rows, 0 files\n")
    (tmp_path / "data" / "ichnode.db").write_bytes(b"no database" * 100)
    outcome = ichnode("db", "check", "--config", config, "--json")
    assert outcome.exit_code == 1
    assert json.loads(outcome.output)["problems"] == [
        {"kind": "database", "subject": "database", "detail": "file is not a database"}
    ]


def test_a_database_that_was_lost_is_sound_again_after_a_restore(config, tmp_path):
    database = tmp_path / "data" / "ichnode.db"
    outcome = ichnode("db", "backup", tmp_path / "copy.db", "--config", config, "--json")
    assert (outcome.exit_code, json.loads(outcome.output)["instances"]) == (0, 0)
    for file in database.parent.glob("ichnode.db*"):
        file.unlink()
    assert "there is no ledger" in ichnode("db", "check", "--config", config).stderr
    shutil.copy(tmp_path / "copy.db", database)
    assert ichnode("db", "check", "--config", config).exit_code == 0


def test_a_backup_that_cannot_be_made_is_one_line(config, tmp_path):
    outcome = ichnode("db", "backup", tmp_path / "none" / "copy.db", "--config", config)
    assert (outcome.exit_code, outcome.stderr) == (1, f"{tmp_path}/none/copy.db: unable to open database file\n")


LOOKS = [
    ("jobs", "list"),
    ("jobs", "show", "1"),
    ("jobs", "retry", "1"),
    ("jobs", "drop", "1"),
    ("destinations", "list"),
    ("audit", "show"),
    ("audit", "verify"),
    ("status",),
    ("replay", "--since", "2026-01-01"),
]


def tables_of(database):
    with closing(sqlite3.connect(database)) as db:
        return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_a_ledger_of_an_older_form_is_named_and_left_as_it_is(command, tmp_path, config):
    database = tmp_path / "data" / "ichnode.db"
    engine = new_engine(f"sqlite:///{database}")
    downgrade(_migrations(engine), "0011")
    engine.dispose()
    before = tables_of(database)
    outcome = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert tables_of(database) == before
    assert outcome.exit_code == 1
    said = f"database.url: sqlite:///{database} has the form 0011, and this ichnode wants {newest_form()}"
    assert outcome.stderr == f"{said}: its `serve` migrates it\n"


def test_a_ledger_of_a_newer_form_is_named(tmp_path, config):
    with closing(sqlite3.connect(tmp_path / "data" / "ichnode.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    outcome = CliRunner().invoke(app, ["jobs", "list", "--config", str(config)])
    assert outcome.exit_code == 1
    assert outcome.stderr.endswith(f"wants {newest_form()}: use the ichnode that wrote it\n")
