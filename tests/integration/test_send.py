"""Sending over real sockets, and what the delivering stage notes of it in a real outbox."""

import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from ichnode.dicom.scu import Outcome, Outgoing, Peer, send
from ichnode.dicom.statuses import Verdict
from ichnode.domain.job import JobState
from ichnode.domain.study import Instance
from ichnode.errors import DeliveryError
from ichnode.metrics import Metrics
from ichnode.stages.deliver import DeliverStage, RetryPolicy
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger, PlannedJob
from ichnode.storage.outbox import Outbox
from tests.pacs import Pacs
from tests.series_factory import part10, phantom_datasets

NOW = 1000.0


@pytest.fixture
def objects(tmp_path: Path) -> list[Outgoing]:
    """Three files to send."""
    result = []
    for number, dataset in enumerate(phantom_datasets()[:3]):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(part10(dataset))
        uid = dataset.SOPInstanceUID
        result.append(Outgoing(sop_class_uid=CTImageStorage, sop_instance_uid=uid, file=str(path)))
    return result


def peer_at(port: int) -> Peer:
    return Peer(ae_title="PACS", host="127.0.0.1", port=port, connect_timeout_s=2, response_timeout_s=5)


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
        outcomes = list(send(peer_at(pacs.port), objects, calling_ae_title="ICHNODE"))
        assert [d.SOPInstanceUID for d in pacs.taken] == [objects[0].sop_instance_uid, objects[2].sop_instance_uid]
    assert [o.verdict for o in outcomes] == [Verdict.DELIVERED, Verdict.PERMANENT, Verdict.DELIVERED]
    assert outcomes[1].status is None
    assert outcomes[1].detail.startswith("result file cannot be read: ")


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
        assert next(outcomes).verdict is Verdict.DELIVERED
        (ours,) = [t for t in set(threading.enumerate()) - before if isinstance(t, Association) and t.is_requestor]
        abort()
        ours.join(10)
        with pytest.raises(DeliveryError, match="connection lost") as problem:
            next(outcomes)
    assert not problem.value.permanent


class Delivering:
    """The stage of one destination with one job of three results to deliver, and a clock that the test sets."""

    def __init__(self, engine, objects: list[Outgoing], port: int) -> None:
        self.now = NOW
        self.outbox, self.history, self._ledger = Outbox(engine), History(engine), Ledger(engine)
        self._receive_and_decide(Intake(engine))
        job = self._ledger.claim(at=NOW)
        self.job_id = job.id
        files = [
            ResultFile(
                role=f"role {number}",
                sop_instance_uid=o.sop_instance_uid,
                sop_class_uid=o.sop_class_uid,
                series_instance_uid=f"4.{number}",
                file=o.file,
            )
            for number, o in enumerate(objects)
        ]
        self._ledger.finish_analysis(job, files, findings={}, seconds={}, at=NOW)
        self.stage = DeliverStage(
            "pacs",
            peer_at(port),
            outbox=self.outbox,
            history=self.history,
            metrics=Metrics(sources=[], count_jobs=dict),
            retry=RetryPolicy(first_s=8, cap_s=60, max_attempts=3),
            calling_ae_title="ICHNODE",
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )

    def _receive_and_decide(self, intake: Intake) -> None:
        instance = Instance(
            sop_instance_uid="1.1.1",
            sop_class_uid=CTImageStorage,
            series_instance_uid="1.1",
            study_instance_uid="1",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            file="/1",
            header={},
            association_id=intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=NOW),
            received_at=NOW,
        )
        intake.keep(instance, sha256="a", size_bytes=10)
        (waiting,) = intake.waiting_studies()
        planned = PlannedJob(
            series_instance_uid="1.1",
            state=JobState.READY,
            decision="analyse",
            reason="chosen",
            detail="",
            rule="r",
            run=("hematoma",),
            send_to=("pacs",),
            priority="routine",
            report_ignored=False,
            input_sha256="x",
        )
        self._ledger.record_decisions(
            "1",
            [planned],
            last_instance_id=waiting.last_instance_id,
            last_received_at=NOW,
            evidence="quiet",
            at=NOW,
        )

    def deliveries(self) -> list[tuple[str, int]]:
        return [(d.state, d.attempts) for d in self.outbox.of_job(self.job_id)]


def test_a_lost_result_file_fails_its_delivery_alone(engine, objects):
    Path(objects[1].file).unlink()
    with Pacs() as pacs:
        delivering = Delivering(engine, objects, pacs.port)
        assert delivering.stage.turn()
    assert delivering.deliveries() == [("delivered", 1), ("refused", 1), ("delivered", 1)]
    assert "result file cannot be read" in delivering.outbox.of_job(delivering.job_id)[1].error
    assert delivering.history.job(delivering.job_id).state is JobState.FAILED


def failing_send(*_, **__):
    yield Outcome(verdict=Verdict.DELIVERED, status=0, detail="0x0000")
    raise KeyError("a fault of ichnode")


def test_an_unforeseen_failure_counts_as_an_attempt_and_is_tried_later(engine, objects, monkeypatch):
    monkeypatch.setattr("ichnode.stages.deliver.send", failing_send)
    delivering = Delivering(engine, objects, port=1)
    with pytest.raises(KeyError):
        delivering.stage.turn()
    assert delivering.deliveries() == [("delivered", 1), ("pending", 1), ("pending", 1)]
    assert not delivering.stage.turn()
    assert not delivering.outbox.due("pacs", at=NOW + 3.9)
    assert len(delivering.outbox.due("pacs", at=NOW + 8)) == 2


def test_a_failure_that_never_ends_ends_in_dead_letters(engine, objects, monkeypatch):
    def fail(*_, **__):
        raise KeyError("a fault of ichnode")

    monkeypatch.setattr("ichnode.stages.deliver.send", fail)
    delivering = Delivering(engine, objects, port=1)
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
