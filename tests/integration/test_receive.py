"""C-STORE: a success answer is a promise, and everything else has a name."""

from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import StoragePresentationContexts
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy.exc import OperationalError

from ichnode.dicom.admission import AdmittedSource
from ichnode.phantom import REGULAR, head_ct
from ichnode.storage.files import FileStore
from tests.integration.conftest import encoded


@pytest.fixture(scope="module")
def ct():
    """One CT instance."""
    return head_ct(hematoma_ml=0, geometry=replace(REGULAR, rows=32, columns=32)).datasets[0]


def store_raw(association, data, *, instance="1.2.3", sop_class=CTImageStorage):
    """C-STORE of bytes that need not be what they claim; the response's status and comment."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = instance
    request.Priority = 2
    request.DataSet = BytesIO(data)
    context = association.accepted_contexts[0].context_id
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return response.Status, response.ErrorComment or ""


def test_echo_succeeds(receiving, associate):
    assert associate(receiving.port).send_c_echo().Status == 0x0000


def test_a_stored_instance_lies_byte_for_byte_in_its_file_and_has_a_row(receiving, associate, ct):
    assert associate(receiving.port, CTImageStorage).send_c_store(ct).Status == 0x0000
    (row,) = receiving.received(ct.StudyInstanceUID)
    (file,) = receiving.files()
    assert str(file) == row.file
    content = file.read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    assert content[row.header["DataSetOffset"] :] == encoded(ct)
    assert row.header["SliceThickness"] == ct.SliceThickness


def test_no_part_of_a_file_name_was_received(receiving, associate, ct):
    associate(receiving.port, CTImageStorage).send_c_store(ct)
    (file,) = receiving.files()
    assert not any(str(value) in str(file) for value in (ct.SOPInstanceUID, ct.PatientID, ct.SeriesInstanceUID))


def test_an_identical_resend_succeeds_and_changes_nothing(receiving, associate, ct):
    association = associate(receiving.port, CTImageStorage)
    assert [association.send_c_store(ct).Status for _ in range(2)] == [0x0000, 0x0000]
    other_sender = associate(receiving.port, CTImageStorage, calling="OTHER")
    assert other_sender.send_c_store(ct).Status == 0x0000
    assert len(receiving.files()) == len(receiving.received(ct.StudyInstanceUID)) == 1


def test_a_resend_brings_back_a_file_that_was_lost(receiving, associate, ct):
    association = associate(receiving.port, CTImageStorage)
    association.send_c_store(ct)
    (first,) = receiving.files()
    content = first.read_bytes()
    first.unlink()
    assert association.send_c_store(ct).Status == 0x0000
    (instance,) = receiving.received(ct.StudyInstanceUID)
    assert Path(instance.file).read_bytes() == content
    assert receiving.files() == [Path(instance.file)]


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_resend_takes_the_place_of_a_file_that_was_cut_off(receiving, associate, ct, left):
    association = associate(receiving.port, CTImageStorage)
    association.send_c_store(ct)
    (first,) = receiving.files()
    content = first.read_bytes()
    first.write_bytes(content[:left])
    assert [association.send_c_store(ct).Status for _ in range(2)] == [0x0000, 0x0000]
    (instance,) = receiving.received(ct.StudyInstanceUID)
    assert Path(instance.file).read_bytes() == content
    assert sorted(receiving.files()) == sorted([first, Path(instance.file)])  # nobody knows what the damaged one holds


def test_a_commit_whose_answer_was_lost_costs_no_file(receiving, associate, ct, engine, monkeypatch):
    commit = engine.dialect.do_commit

    def lost(connection):
        commit(connection)
        monkeypatch.setattr(engine.dialect, "do_commit", commit)
        raise OperationalError("COMMIT", {}, Exception("the connection was closed"), connection_invalidated=True)

    association = associate(receiving.port, CTImageStorage)
    association.send_c_store(ct)  # opens the row of the association
    other = deepcopy(ct)
    other.SOPInstanceUID = f"{ct.SOPInstanceUID}.1"
    monkeypatch.setattr(engine.dialect, "do_commit", lost)
    assert association.send_c_store(other).Status == 0xA700
    assert association.send_c_store(other).Status == 0x0000
    assert all(Path(instance.file).exists() for instance in receiving.received(ct.StudyInstanceUID))
    assert len(receiving.files()) == 2


def test_other_bytes_under_a_known_uid_are_put_aside_and_answered_with_failure(receiving, associate, ct):
    association = associate(receiving.port, CTImageStorage)
    association.send_c_store(ct)
    (first,) = receiving.files()
    before = first.read_bytes()
    data = bytearray(encoded(ct))
    data[-1] ^= 1
    status, comment = store_raw(association, bytes(data), instance=ct.SOPInstanceUID)
    assert (status, comment) == (0xC001, "other bytes are stored under this SOP Instance UID")
    assert first.read_bytes() == before
    assert len(receiving.files()) == 2
    assert len(receiving.received(ct.StudyInstanceUID)) == 1
    assert receiving.intake.conflicts(ct.StudyInstanceUID) == [ct.SOPInstanceUID]
    assert 'ichnode_instances_refused_total{status="0xC001"} 1.0' in receiving.metrics.page().decode()


def changed(dataset, **values):
    """The encoded data set with other values; None removes an element."""
    copy = deepcopy(dataset)
    for keyword, value in values.items():
        if value is None:
            delattr(copy, keyword)
        else:
            setattr(copy, keyword, value)
    return encoded(copy)


@pytest.mark.parametrize(
    ("break_it", "status"),
    [
        (lambda ct: changed(ct, StudyInstanceUID=None), 0xA900),
        (lambda ct: changed(ct, SeriesInstanceUID="1.2.x"), 0xA900),
        (lambda ct: changed(ct, SOPInstanceUID="1.2.3.4"), 0xA900),
        (lambda ct: changed(ct, SOPClassUID=SecondaryCaptureImageStorage), 0xA900),
        (lambda ct: encoded(ct)[:-7], 0xC000),
        (lambda ct: b"not a data set at all", 0xC000),
    ],
)
def test_what_does_not_match_or_parse_gets_its_named_status_and_leaves_nothing(
    receiving, associate, ct, break_it, status
):
    association = associate(receiving.port, CTImageStorage)
    answer, comment = store_raw(association, break_it(ct), instance=ct.SOPInstanceUID)
    assert answer == status
    assert comment
    assert receiving.files() == []
    assert association.send_c_store(ct).Status == 0x0000


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.02.3", "1..3", "abc"])
def test_an_instance_uid_that_is_none_is_refused(receiving, associate, ct, uid):
    association = associate(receiving.port, CTImageStorage)
    status, _ = store_raw(association, encoded(ct), instance=uid)
    assert status == 0x0117
    assert receiving.files() == []


def test_explicit_data_labelled_implicit_is_refused(receiving, associate, ct):
    association = associate(receiving.port, CTImageStorage, syntax=ImplicitVRLittleEndian)
    assert store_raw(association, encoded(ct), instance=ct.SOPInstanceUID)[0] == 0xC000


def test_a_deflate_bomb_is_refused_for_want_of_resources(receiving, associate):
    import zlib

    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(600)) + compressor.flush()
    association = associate(receiving.port, CTImageStorage, syntax=DeflatedExplicitVRLittleEndian)
    assert store_raw(association, bomb)[0] == 0xA700


def test_lenient_keeps_what_does_not_parse_and_marks_it(start_receiving, associate, ct):
    receiving = start_receiving(lenient=True)
    association = associate(receiving.port, CTImageStorage)
    assert store_raw(association, encoded(ct)[:-7], instance=ct.SOPInstanceUID)[0] == 0x0000
    (row,) = receiving.received(ct.StudyInstanceUID)
    assert row.header["Malformed"]


def test_below_the_reserve_everything_is_answered_out_of_resources_until_there_is_room(
    start_receiving, associate, ct, monkeypatch
):
    receiving = start_receiving()
    association = associate(receiving.port, CTImageStorage)
    with monkeypatch.context() as full:
        full.setattr(FileStore, "has_room", lambda self: False)
        assert association.send_c_store(ct).Status == 0xA700
    assert receiving.files() == []
    assert association.send_c_store(ct).Status == 0x0000


def test_a_failing_disk_leaves_nothing_and_is_answered_out_of_resources(receiving, associate, ct, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    association = associate(receiving.port, CTImageStorage)
    with monkeypatch.context() as full:
        full.setattr("os.fsync", fail)
        assert association.send_c_store(ct).Status == 0xA700
    assert receiving.files() == []
    assert association.send_c_store(ct).Status == 0x0000


def test_a_locked_ledger_is_answered_out_of_resources_and_leaves_nothing(receiving, associate, ct, monkeypatch):
    def locked(*_, **__):
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    association = associate(receiving.port, CTImageStorage)
    associate(receiving.port).send_c_echo()
    with monkeypatch.context() as busy:
        busy.setattr(receiving.intake.__class__, "keep", locked)
        assert association.send_c_store(ct).Status == 0xA700
    assert receiving.files() == []
    assert association.send_c_store(ct).Status == 0x0000


def test_a_foreign_sop_class_is_refused_in_the_negotiation(receiving, associate):
    association = associate(receiving.port, MRImageStorage, CTImageStorage)
    assert [c.abstract_syntax for c in association.accepted_contexts] == [CTImageStorage]
    assert association.rejected_contexts[0].result == 0x03


def test_a_wrong_called_title_is_rejected_by_name(receiving, associate):
    association = associate(receiving.port, called="SOMEONE")
    rejection = association.acceptor.primitive
    assert (rejection.result, rejection.result_source, rejection.diagnostic) == (1, 1, 7)


def test_who_is_turned_away_and_why_is_logged(receiving, associate, caplog):
    associate(receiving.port, called="SOMEONE", calling="CT9")
    associate(receiving.port, MRImageStorage, calling="MR1").release()
    told = {r.message: r for r in caplog.records if r.name.startswith("ichnode.dicom")}
    rejection = told["association_rejected"]
    assert (rejection.source, rejection.called_ae_title, rejection.peer) == ("CT9", "SOMEONE", "127.0.0.1")
    assert rejection.reason == "Called AE title not recognised"
    refusal = told["sop_classes_refused"]
    assert (refusal.levelname, refusal.count, refusal.detail) == ("WARNING", 1, "MR Image Storage")


def test_a_sender_that_proposes_everything_gets_one_line(receiving, associate, caplog):
    caplog.set_level("INFO", logger="ichnode")
    classes = [c.abstract_syntax for c in StoragePresentationContexts[:100]]
    associate(receiving.port, CTImageStorage, *(c for c in classes if c != CTImageStorage)).release()
    (line,) = [r for r in caplog.records if r.message == "sop_classes_refused"]
    assert line.levelname == "INFO"
    assert line.count > 50
    assert line.detail.count(", ") == 2


def test_only_admitted_sources_get_an_association(start_receiving, associate):
    receiving = start_receiving(
        admitted=[
            AdmittedSource(ae_title="CT1", network=ip_network("127.0.0.0/8")),
            AdmittedSource(ae_title="CT2", network=ip_network("10.0.0.0/8")),
        ]
    )
    assert associate(receiving.port, calling="CT1").is_established
    for stranger in ("CT2", "CT3"):
        rejection = associate(receiving.port, calling=stranger).acceptor.primitive
        assert (rejection.result, rejection.result_source, rejection.diagnostic) == (1, 1, 3)


def associate_raw(port, called: bytes, calling: bytes) -> bytes:
    """The first answer PDU to an A-ASSOCIATE-RQ with these 16-byte titles."""
    import socket

    def item(kind, content):
        return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content

    context = item(0x20, b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3"))
    body = b"\0\1\0\0" + called + calling + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(b"\x01\0" + len(body).to_bytes(4, "big") + body)
        return peer.recv(1024)


@pytest.mark.parametrize(
    ("called", "calling", "answer"),
    [
        (b"ICHNODE".ljust(16), b"CT".ljust(16), b"\x02"),
        (b"ICHNODE".ljust(16, b"\0"), b"CT".ljust(16, b"\0"), b"\x02"),
        (b"ICHNODE\0garbage ", b"CT\0\xff\xfe".ljust(16), b"\x02"),
        (b"ICHNODE".ljust(16), bytes(16), b"\x02"),
        (b"ICHNODE".ljust(16), b" " * 16, b"\x02"),
        (b"ICHNODE".ljust(16), b"C\tT\\".ljust(16), b"\x02"),
        (b" " * 16, b"CT".ljust(16), b"\x03"),
        (bytes(16), b"CT".ljust(16), b"\x03"),
    ],
)
def test_padded_and_blank_titles_get_a_decision_and_no_abort(receiving, called, calling, answer):
    assert associate_raw(receiving.port, called, calling)[:1] == answer


def test_a_released_association_is_told_from_an_aborted_one(receiving, associate, ct, engine):
    from sqlalchemy import text

    def endings():
        with engine.connect() as db:
            return list(db.execute(text("SELECT ending FROM associations ORDER BY id")).scalars())

    released = associate(receiving.port, CTImageStorage)
    released.send_c_store(ct)
    released.release()
    aborted = associate(receiving.port, CTImageStorage)
    aborted.send_c_store(ct)
    assert endings()[-1] is None
    aborted.abort()
    for _ in range(200):
        if endings() == ["released", "aborted"]:
            break
        __import__("threading").Event().wait(0.02)
    assert endings() == ["released", "aborted"]


def test_instances_are_counted_by_configured_source_only(receiving, associate, ct):
    associate(receiving.port, CTImageStorage, calling="SCANNER").send_c_store(ct)
    associate(receiving.port, CTImageStorage, calling="STRANGER").send_c_store(ct)
    page = receiving.metrics.page().decode()
    assert 'ichnode_instances_received_total{source="SCANNER"} 1.0' in page
    assert 'ichnode_instances_received_total{source="unlisted"} 1.0' in page
    assert "STRANGER" not in page


def test_the_answer_comes_after_file_and_folder_are_synced_and_the_row_is_committed(
    receiving, associate, ct, monkeypatch
):
    import os

    order = []
    sync, rename, keep = os.fsync, type(receiving.folder).rename, receiving.intake.__class__.keep

    def noting(name, function):
        def noted(*args, **kwargs):
            result = function(*args, **kwargs)
            order.append(name)
            return result

        return noted

    association = associate(receiving.port, CTImageStorage)
    association.send_c_store(head_ct(hematoma_ml=0, geometry=replace(REGULAR, rows=16, columns=16)).datasets[1])
    monkeypatch.setattr("os.fsync", noting("fsync", sync))
    monkeypatch.setattr(type(receiving.folder), "rename", noting("rename", rename))
    monkeypatch.setattr(receiving.intake.__class__, "keep", noting("commit", keep))
    assert association.send_c_store(ct).Status == 0x0000
    assert order[:4] == ["rename", "fsync", "fsync", "commit"]
