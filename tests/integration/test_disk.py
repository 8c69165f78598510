"""Full, read-only, inode-less disks and locks: a named status, nothing left over, and all well again at once."""

import shutil
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from pydicom.uid import CTImageStorage

from ichnode.phantom import REGULAR, head_ct
from ichnode.storage.files import FileStore
from ichnode.storage.schema import open_engine
from tests.small_disk import SmallDisk

OUT_OF_RESOURCES = 0xA700


@pytest.fixture
def engine(sqlite_engine):
    """Here the file itself counts."""
    return sqlite_engine


@pytest.fixture(scope="module")
def heads():
    """Some CT instances."""
    return head_ct(hematoma_ml=0, geometry=replace(REGULAR, rows=64, columns=64)).datasets


@pytest.fixture
def disk(tmp_path):
    """Makes small disks."""
    made = []

    def disk(options="size=16m"):
        made.append(SmallDisk(tmp_path / f"disk{len(made)}", options))
        return made[-1]

    yield disk
    for one in made:
        one.unmount()


def files_of(store):
    return [file for file in store.folder.rglob("*") if file.is_file()]


def test_a_disk_that_is_full_and_has_room_again_twenty_times(start_receiving, associate, heads, disk):
    small = disk()
    receiving = start_receiving(store=FileStore(small.folder / "instances"))
    association = associate(receiving.port, CTImageStorage, "1.2.840.10008.1.1")
    stored = 0
    for number in range(20):
        small.fill(leave_bytes=4096 if number % 2 else 0)
        assert association.send_c_store(heads[number]).Status == OUT_OF_RESOURCES
        assert association.send_c_echo().Status == 0
        assert len(files_of(receiving.store)) == stored
        small.clear()
        assert association.send_c_store(heads[number]).Status == 0
        stored += 1
    assert len(receiving.received(heads[0].StudyInstanceUID)) == stored == len(files_of(receiving.store))


def test_ledger_and_files_on_one_full_disk(start_receiving, associate, heads, disk):
    small = disk()
    engine = open_engine(f"sqlite:///{small.folder}/ichnode.db")
    receiving = start_receiving(store=FileStore(small.folder / "instances"))
    receiving.intake._engine = engine
    association = associate(receiving.port, CTImageStorage, "1.2.840.10008.1.1")
    assert association.send_c_store(heads[0]).Status == 0
    for number in range(1, 11):
        small.fill(leave_bytes=12_288)  # room for the file, none for the log of the ledger
        statuses = {association.send_c_store(heads[number]).Status for _ in range(2)}
        assert statuses <= {0, OUT_OF_RESOURCES}
        assert association.send_c_echo().Status == 0
        small.clear()
        assert association.send_c_store(heads[number]).Status == 0
    assert len(receiving.received(heads[0].StudyInstanceUID)) == 11 == len(files_of(receiving.store))
    engine.dispose()


def test_a_read_only_disk(start_receiving, associate, heads, disk):
    small = disk()
    store = FileStore(small.folder / "instances")
    receiving = start_receiving(store=store)
    association = associate(receiving.port, CTImageStorage, "1.2.840.10008.1.1")
    small.make("ro")
    assert store.trouble() == "read-only"
    assert association.send_c_store(heads[0]).Status == OUT_OF_RESOURCES
    assert association.send_c_echo().Status == 0
    small.make("rw")
    assert association.send_c_store(heads[0]).Status == 0


def test_a_disk_without_inodes(start_receiving, associate, heads, disk):
    small = disk("size=16m,nr_inodes=200")
    store = FileStore(small.folder / "instances")
    receiving = start_receiving(store=store)
    association = associate(receiving.port, CTImageStorage, "1.2.840.10008.1.1")
    small.use_up_inodes()
    assert store.trouble() == "out of inodes"
    assert association.send_c_store(heads[0]).Status == OUT_OF_RESOURCES
    assert files_of(store) == []
    small.clear()
    assert association.send_c_store(heads[0]).Status == 0


def test_new_associations_are_refused_before_instances_are(disk):
    small = disk("size=16m,nr_inodes=1000")
    store = FileStore(small.folder / "instances", reserve_bytes=500_000, soft_reserve_bytes=1_000_000)
    assert not store.refuses_associations
    small.fill(leave_bytes=900_000)
    assert (store.refuses_associations, store.has_room()) == (True, True)
    small.fill(leave_bytes=400_000)
    assert (store.refuses_associations, store.trouble()) == (True, "below the reserve")
    small.clear()
    assert not store.refuses_associations


def test_a_store_that_is_gone_has_no_room(disk, tmp_path):
    store = FileStore(tmp_path / "instances")
    (tmp_path / "instances").rmdir()
    assert (store.trouble(), store.refuses_associations) == ("No such file or directory", True)


def test_a_subfolder_that_vanishes_is_replaced_at_once(tmp_path):
    store = FileStore(tmp_path / "instances")
    shutil.rmtree(store.keep([b"x"]).parent)
    kept = [store.keep([b"y"]), store.keep([b"z"])]
    assert [file.read_bytes() for file in kept] == [b"y", b"z"]
    assert kept[0].parent == kept[1].parent


def test_empty_folders_and_half_written_files_are_swept_at_the_start(tmp_path):
    before = FileStore(tmp_path / "instances")
    kept, removed = before.keep([b"x"]), FileStore(tmp_path / "instances").keep([b"y"])
    kept.with_suffix(".part").write_bytes(b"z")
    removed.unlink()
    assert FileStore(tmp_path / "instances").sweep() == 1
    assert list((tmp_path / "instances").rglob("*")) == [kept.parent, kept]


@pytest.mark.parametrize("senders", [1, 6])
def test_a_locked_ledger_is_waited_for_no_longer_than_the_limit_by_anybody(
    start_receiving, associate, heads, tmp_path, monkeypatch, senders
):
    limit_s = 2.0
    monkeypatch.setattr("ichnode.storage.intake.LOCK_TIMEOUT_S", limit_s)
    receiving = start_receiving(max_associations=20)
    associations = [associate(receiving.port, CTImageStorage) for _ in range(senders)]
    series = iter(heads)
    for association in associations:
        assert association.send_c_store(next(series)).Status == 0
    answers = []

    def send(association, dataset, delay_s):
        threading.Event().wait(delay_s)
        began = time.monotonic()
        status = association.send_c_store(dataset).Status
        answers.append((status, time.monotonic() - began))

    with closing(sqlite3.connect(tmp_path / "ichnode.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [
            threading.Thread(target=send, args=(one, next(series), 0.15 * i)) for i, one in enumerate(associations)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        other.execute("ROLLBACK")
    assert {status for status, _ in answers} == {OUT_OF_RESOURCES}
    assert max(seconds for _, seconds in answers) < limit_s + 1.0
    assert len(receiving.received(heads[0].StudyInstanceUID)) == senders == len(receiving.files())
    for association in associations:
        association.send_c_store(next(series))
    assert len(receiving.received(heads[0].StudyInstanceUID)) == 2 * senders


def test_a_short_lock_is_waited_for(start_receiving, associate, heads, tmp_path):
    receiving = start_receiving()
    association = associate(receiving.port, CTImageStorage)
    assert association.send_c_store(heads[0]).Status == 0
    with closing(sqlite3.connect(tmp_path / "ichnode.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
        assert association.send_c_store(heads[1]).Status == 0
