"""A damaged database is named at the start, and written no more once it is noticed."""

import os
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ichnode.storage.intake import Intake
from ichnode.storage.schema import open_engine
from ichnode.storage.soundness import LedgerDamaged, Soundness, look_for_damage

INSERT = text("INSERT INTO associations (id, calling_ae_title, peer, opened_at) VALUES (:i, :t, 'x', 1.0)")


@pytest.fixture
def engine(sqlite_engine):
    """Here the file itself counts."""
    return sqlite_engine


@pytest.fixture
def filled(engine, tmp_path):
    """A database of some hundred pages, all in the file."""
    with engine.begin() as db:
        db.execute(INSERT, [{"i": number, "t": "T" * 200} for number in range(2000)])
    engine.dispose()
    return tmp_path / "ichnode.db"


def damage(database, *, begin=8192, content=None):
    descriptor = os.open(database, os.O_WRONLY)
    os.pwrite(descriptor, content or os.urandom(200_000), begin)
    os.close(descriptor)


def test_a_sound_database_and_none_at_all_pass(filled, tmp_path):
    look_for_damage(filled, limit_s=3.0)
    look_for_damage(tmp_path / "none.db", limit_s=3.0)
    assert not (tmp_path / "none.db").exists()


def test_damaged_pages_and_other_files_are_named(filled, tmp_path):
    damage(filled)
    with pytest.raises(LedgerDamaged):
        look_for_damage(filled, limit_s=3.0)
    (tmp_path / "other.db").write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerDamaged, match="not a database"):
        look_for_damage(tmp_path / "other.db", limit_s=3.0)


def test_a_damaged_header_is_named(filled):
    damage(filled, begin=44, content=b"\xff" * 4)  # the form of its schema
    with pytest.raises(LedgerDamaged, match="unsupported file format"):
        look_for_damage(filled, limit_s=3.0)


def test_looking_ends_in_time(filled):
    look_for_damage(filled, limit_s=0.0)


def test_a_locked_database_is_no_damage(filled):
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("DELETE FROM associations WHERE id = 1")
        look_for_damage(filled, limit_s=0.1)


def test_after_damage_was_noticed_nothing_is_acknowledged(filled):
    engine = open_engine(f"sqlite:///{filled}")
    soundness, intake = Soundness(engine), Intake(engine)
    damage(filled, begin=40_000, content=os.urandom(400_000))
    assert soundness.trouble == ""
    with pytest.raises(SQLAlchemyError), engine.connect() as db:
        db.execute(text("SELECT count(peer) FROM associations WHERE peer = 'y'")).scalar_one()
    assert "malformed" in soundness.trouble
    with pytest.raises(LedgerDamaged):
        intake.open_association(calling_ae_title="CT", peer="x", at=1.0)
    engine.dispose()


def test_a_lock_a_full_disk_and_a_broken_rule_are_no_damage(engine):
    soundness = Soundness(engine)
    with pytest.raises(SQLAlchemyError), engine.begin() as db:
        db.execute(text("INSERT INTO associations VALUES (1, NULL, 'x', 1.0, NULL, NULL, NULL)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("PRAGMA max_page_count = 1"))
        with pytest.raises(SQLAlchemyError, match="full"):
            db.execute(INSERT, [{"i": number, "t": "T" * 999} for number in range(2000)])
    assert soundness.trouble == ""
