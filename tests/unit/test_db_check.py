"""Rows and files are compared, and the database's own soundness told."""

import os
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from ichnode.domain.study import Instance
from ichnode.storage.check import check
from ichnode.storage.dialect import new_engine
from ichnode.storage.files import FileStore
from ichnode.storage.intake import Intake
from ichnode.storage.schema import instances

LATER = 10_000.0  # long after every file that these tests write


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "instances")


@pytest.fixture
def keep(engine, store):
    """Store one more instance, file and row; its file."""
    intake = Intake(engine)
    association = intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=1.0)

    def keep(number=1):
        file = store.keep([b"head", b"pixels"])
        instance = Instance(
            sop_instance_uid=f"1.1.{number}",
            sop_class_uid="1.2",
            series_instance_uid="1.1",
            study_instance_uid="1",
            transfer_syntax_uid="1.3",
            file=str(file),
            header={"DataSetOffset": 4},
            association_id=association,
            received_at=1.0,
        )
        intake.keep(instance, sha256="a", size_bytes=6)
        return file

    return keep


@pytest.fixture
def look(engine, store):
    """Check some time after the newest file; the kinds of problems with their subjects."""

    def look(*, after_s=LATER):
        newest = max((f.stat().st_mtime for f in store.folder.rglob("*.*")), default=0.0)
        outcome = check(engine, [store.folder], now=newest + after_s)
        return {(problem.kind, problem.subject) for problem in outcome.problems}

    return look


def test_a_store_whose_rows_and_files_agree_is_sound(keep, look):
    keep(1), keep(2)
    assert look() == set()


def test_a_row_without_its_file_is_named(keep, look):
    file = keep()
    file.unlink()
    assert look() == {("missing_file", str(file))}


def test_a_file_of_another_size_is_named(keep, look):
    file = keep()
    with file.open("ab") as more:
        more.write(b"x")
    assert look() == {("wrong_size", str(file))}


def test_a_file_that_no_row_names_is_named_once_it_is_old_enough_to_have_one(store, look):
    file = store.keep([b"x"])
    assert look(after_s=5.0) == set()
    assert look() == {("file_without_row", str(file))}


def test_a_half_written_file_is_told_apart(store, keep, look):
    leftover = keep().with_suffix(".part")
    leftover.write_bytes(b"x")
    assert look() == {("half_written", str(leftover))}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_row_that_names_an_association_that_is_not_there_is_found(engine, keep, look):
    keep()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("PRAGMA foreign_keys=OFF"))
        db.execute(text("UPDATE instances SET association_id = 99"))
        db.execute(text("PRAGMA foreign_keys=ON"))
    assert look() == {("foreign_key", "instances")}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_database_with_overwritten_pages_is_not_sound(engine, keep, tmp_path, store):
    keep()
    with engine.begin() as db:
        for number in range(500):
            values = db.execute(text("SELECT * FROM instances LIMIT 1")).mappings().one()
            db.execute(
                insert(instances), dict(values) | {"id": 100 + number, "sop_instance_uid": f"9.{number}", "header": {}}
            )
    engine.dispose()  # the last connection moves the log into the file
    database = tmp_path / "ichnode.db"
    size = database.stat().st_size
    descriptor = os.open(database, os.O_WRONLY)
    os.pwrite(descriptor, os.urandom(size // 2), size // 4)
    os.close(descriptor)
    outcome = check(new_engine(f"sqlite:///{database}"), [store.folder])
    assert {problem.kind for problem in outcome.problems} == {"database"}


def test_a_file_that_is_no_database_is_told_and_not_raised(tmp_path):
    file = Path(tmp_path / "other.db")
    file.write_bytes(b"this is not a database" * 100)
    outcome = check(new_engine(f"sqlite:///{file}"), [])
    assert [(p.kind, p.detail) for p in outcome.problems] == [("database", "file is not a database")]


def test_tables_of_an_older_form_are_told(engine, look):
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert look() == {("form", "database")}
