"""`ichnode db` as an administrator types it."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.storage.schema import open_engine


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
