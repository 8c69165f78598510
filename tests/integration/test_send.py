"""Sending over real sockets, and what the delivering stage notes of it in a real outbox."""

import errno
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from ichnode.dicom.scu import Outcome, send
from ichnode.dicom.statuses import Verdict
from ichnode.domain.job import JobState
from ichnode.errors import DeliveryError
from tests.delivery_factory import NOW, Delivering, peer_at
from tests.pacs import Pacs
from tests.series_factory import part10, phantom_datasets
from tests.stuck_peer import STEPS, stuck_peer


def gone(file: Path) -> None:
    file.unlink()


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def no_dicom(file: Path) -> None:
    file.write_bytes(b"<html>" * 100)


def without_meta(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:132] + content[content.index(b"\x08\x00\x08\x00CS") :])


def in_another_syntax(file: Path) -> None:
    file.write_bytes(part10(phantom_datasets()[0], "1.2.840.10008.1.2"))


@pytest.mark.parametrize("spoil", [gone, emptied, no_dicom, without_meta, in_another_syntax], ids=lambda f: f.__name__)
def test_a_file_that_cannot_be_read_is_refused_for_good_and_the_others_are_sent(objects, spoil):
    spoil(Path(objects[1].file))
    with Pacs() as pacs:
        outcomes = [*chain.from_iterable(send(peer_at(pacs.port), objects, calling_ae_title="ICHNODE"))]
        assert [d.SOPInstanceUID for d in pacs.taken] == [objects[0].sop_instance_uid, objects[2].sop_instance_uid]
    assert [o.verdict for o in outcomes] == [Verdict.DELIVERED, Verdict.PERMANENT, Verdict.DELIVERED]
    assert outcomes[1].status is None
    assert outcomes[1].detail.startswith("result file cannot be read: ")


def test_a_result_that_cannot_be_read_for_the_moment_is_sent_later(engine, objects, monkeypatch):
    def out_of_descriptors(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with Pacs() as pacs:
        delivering = Delivering(engine, objects, pacs.port)
        with monkeypatch.context() as patched:
            patched.setattr(Association, "send_c_store", out_of_descriptors)
            delivering.stage.turn()
        assert delivering.deliveries() == [("pending", 1)] * 3
        delivering.now += 60
        delivering.stage.turn()
    assert delivering.deliveries() == [("delivered", 2)] * 3


@contextmanager
def impatient_pacs():
    """Takes one instance; yields its port, and what aborts the association."""
    associations = []

    def take(event):
        associations.append(event.assoc)
        return 0x0000

    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    yield server.server_address[1], lambda: associations[0].abort()
    server.shutdown()


def test_a_peer_that_aborts_between_two_stores_is_worth_another_attempt(objects):
    with impatient_pacs() as (port, abort):
        before = set(threading.enumerate())
        outcomes = send(peer_at(port), objects, calling_ae_title="ICHNODE")
        assert next(outcomes)[0].verdict is Verdict.DELIVERED
        (ours,) = [t for t in set(threading.enumerate()) - before if isinstance(t, Association) and t.is_requestor]
        abort()
        ours.join(10)
        with pytest.raises(DeliveryError, match="connection lost") as problem:
            next(outcomes)
    assert not problem.value.permanent


@pytest.mark.parametrize("step", STEPS)
def test_a_destination_that_hangs_is_given_up_within_its_time_limits_and_tried_later(engine, objects, tmp_path, step):
    large = phantom_datasets()[0]
    large.PixelData = bytes(30_000_000)  # more than the buffers of a connection hold
    (tmp_path / "large.dcm").write_bytes(part10(large))
    objects = [replace(objects[0], file=str(tmp_path / "large.dcm")), *objects[1:]]
    with stuck_peer(step) as port:
        peer = replace(peer_at(port), connect_timeout_s=0.5, response_timeout_s=1)
        delivering = Delivering(engine, objects, sender=partial(send, peer, calling_ae_title="ICHNODE"))
        began = monotonic()
        assert delivering.stage.turn()
        assert monotonic() - began < 8
    assert delivering.deliveries() == [("pending", 1)] * 3


def test_a_host_that_does_not_answer_is_given_up_within_the_connect_timeout(objects):
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # fills the queue: what comes after it has no answer
        peer = replace(peer_at(full.getsockname()[1]), connect_timeout_s=0.5)
        began = monotonic()
        with pytest.raises(DeliveryError, match="no association") as problem:
            list(send(peer, objects, calling_ae_title="ICHNODE"))
        assert monotonic() - began < 4
    assert not problem.value.permanent


def test_a_lost_result_file_fails_its_delivery_alone(engine, objects):
    Path(objects[1].file).unlink()
    with Pacs() as pacs:
        delivering = Delivering(engine, objects, pacs.port)
        assert delivering.stage.turn()
    assert delivering.deliveries() == [("delivered", 1), ("refused", 1), ("delivered", 1)]
    assert "result file cannot be read" in delivering.outbox.of_job(delivering.job_id)[1].error
    assert delivering.history.job(delivering.job_id).state is JobState.FAILED


def failing_send(*_, **__):
    yield [Outcome(verdict=Verdict.DELIVERED, status=0, detail="0x0000")]
    raise KeyError("a fault of ichnode")


def test_an_unforeseen_failure_counts_as_an_attempt_and_is_tried_later(engine, objects):
    delivering = Delivering(engine, objects, sender=failing_send)
    with pytest.raises(KeyError):
        delivering.stage.turn()
    assert delivering.deliveries() == [("delivered", 1), ("pending", 1), ("pending", 1)]
    assert not delivering.stage.turn()
    assert not delivering.outbox.due("pacs", at=NOW + 3.9)
    assert len(delivering.outbox.due("pacs", at=NOW + 8)) == 2


def test_a_failure_that_never_ends_ends_in_dead_letters(engine, objects):
    def fail(*_, **__):
        raise KeyError("a fault of ichnode")

    delivering = Delivering(engine, objects, sender=fail)
    for _ in range(3):
        with pytest.raises(KeyError):
            delivering.stage.turn()
        delivering.now += 100
    assert not delivering.stage.turn()
    assert delivering.deliveries() == [("dead", 3)] * 3
    assert delivering.history.job(delivering.job_id).state is JobState.FAILED


def test_a_ledger_that_cannot_be_written_does_not_send_the_same_again_and_again(engine, objects, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with Pacs() as pacs:
        delivering = Delivering(engine, objects, pacs.port)
        with monkeypatch.context() as patch:
            for word in ("delivered", "postponed"):
                patch.setattr(delivering.outbox, word, full)
            with pytest.raises(OSError, match="No space"):
                delivering.stage.turn()
        assert not delivering.stage.turn()
        assert len(pacs.taken) == 1
        delivering.now += 8
        assert delivering.stage.turn()
    assert [state for state, _ in delivering.deliveries()] == ["delivered"] * 3
