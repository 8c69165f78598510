"""A backup is one state of the ledger, made while others write, and verified before it has its name."""

import sqlite3
import threading
from contextlib import closing

import pytest
from sqlalchemy import text

from ichnode.errors import BackupError
from ichnode.storage.backup import back_up
from ichnode.storage.intake import Intake
from ichnode.storage.schema import open_engine


@pytest.fixture
def engine(sqlite_engine):
    """Here the file itself counts."""
    return sqlite_engine


@pytest.fixture
def database(engine, tmp_path):
    return tmp_path / "ichnode.db"


def test_a_backup_holds_every_commit_before_it_and_opens_by_itself(engine, database, tmp_path):
    Intake(engine).open_association(calling_ae_title="CT", peer="127.0.0.1", at=1.0)
    told = []
    back_up(database, tmp_path / "copy.db", told.append)
    assert [said.split()[0] for said in told] == ["copying", "verifying", "bringing"]
    assert not (tmp_path / "copy.db-wal").exists()
    with open_engine(f"sqlite:///{tmp_path}/copy.db").connect() as db:
        assert db.execute(text("SELECT calling_ae_title FROM associations")).scalar_one() == "CT"


def test_a_backup_is_made_while_another_process_writes_and_neither_waits(engine, database, tmp_path):
    intake, stop, written = Intake(engine), threading.Event(), []

    def write():
        while not stop.is_set():
            written.append(intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=1.0))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backups = [back_up(database, tmp_path / f"copy{i}.db") for i in range(3)]
    finally:
        stop.set()
        writer.join()
    assert len(written) > 3
    for made in backups:
        with closing(sqlite3.connect(made.file)) as db:
            ids = [i for (i,) in db.execute("SELECT id FROM associations ORDER BY id")]
        assert ids == list(range(1, len(ids) + 1))


def test_a_backup_overwrites_nothing(database, tmp_path):
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(BackupError, match="exists already"):
        back_up(database, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_copy_that_is_not_sound_is_not_left_behind(engine, database, tmp_path):
    with engine.begin() as db:
        db.execute(text("INSERT INTO associations VALUES (1, 'CT', 'x', 1.0, NULL, NULL, NULL)"))
    with closing(sqlite3.connect(database, isolation_level=None)) as db:  # foreign keys are off here
        db.execute("INSERT INTO conflicts VALUES (1, '1.1', 'a', '/1', 99, 1.0)")
    with pytest.raises(BackupError, match="1 rows that name a row that is not there"):
        back_up(database, tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy.db*"))


def test_no_backup_of_what_is_no_database(tmp_path):
    (tmp_path / "other.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(BackupError, match="not a database"):
        back_up(tmp_path / "other.db", tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy.db*"))
