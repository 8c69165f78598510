"""Delivered means committed: storage commitment over real sockets, noted in a real ledger."""

from dataclasses import replace
from functools import partial
from time import monotonic

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from sqlalchemy import text

from ichnode.dicom.commitment import CommitmentReport, IncomingReport, request_commitment
from ichnode.domain.job import JobState
from ichnode.errors import NotStored
from ichnode.metrics import Metrics
from ichnode.stages.commit import CommitmentReports, CommitStage
from ichnode.storage.commitments import Commitments
from ichnode.storage.ledger import Ledger
from ichnode.storage.schema import open_engine
from tests.delivery_factory import NOW, RETRY, Delivering, peer_at
from tests.pacs import CommittingPacs, report_listener
from tests.stuck_peer import ASSOCIATE, HALF_AN_ANSWER, STORE, stuck_peer

TIMEOUT_S = 600
MISSING, NOT_SUPPORTED = 0x0112, 0x0122


class Committing(Delivering):
    """The three results of one job, and the stage that asks for their commitment."""

    def __init__(self, engine, objects, port, *, wait_s=10.0):
        super().__init__(engine, objects, port, commits=True)
        self.engine = engine
        self.uids = [o.sop_instance_uid for o in objects]
        self.build(engine, peer_at(port), wait_s)

    def build(self, engine, peer, wait_s=10.0):
        """The stage and the reports, as at the start of a node."""
        commitments = Commitments(engine)
        self.reports = CommitmentReports(
            outbox=self.outbox,
            commitments=commitments,
            history=self.history,
            metrics=Metrics(sources=[], count_jobs=dict),
            retry=RETRY,
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )
        request = partial(request_commitment, peer, calling_ae_title="ICHNODE", wait_s=wait_s)
        self.asking = CommitStage(
            "pacs",
            request=request,
            outbox=self.outbox,
            commitments=commitments,
            reports=self.reports,
            retry=RETRY,
            timeout_s=TIMEOUT_S,
            clock=lambda: self.now,
        )

    def transactions(self):
        with self.engine.connect() as db:
            rows = db.execute(text("SELECT transaction_uid, reported_at FROM commitments ORDER BY asked_at"))
            return [tuple(row) for row in rows]

    def report(self, *, failed=(), reason=MISSING, transaction_uid=None):
        return self.reports.reported(
            CommitmentReport(
                transaction_uid=transaction_uid or self.transactions()[-1][0],
                committed=frozenset(set(self.uids) - set(failed)),
                failed=dict.fromkeys(failed, reason),
            )
        )


@pytest.fixture
def silent(engine, objects):
    """Three results that a PACS took and was asked to commit to; it has said nothing yet."""
    with CommittingPacs(silent=True) as pacs:
        committing = Committing(engine, objects, pacs.port, wait_s=0)
        assert committing.stage.turn()
        assert committing.asking.turn()
        yield pacs, committing


def test_what_is_stored_is_sent_and_what_is_committed_is_delivered(engine, objects):
    with CommittingPacs() as pacs:
        committing = Committing(engine, objects, pacs.port)
        assert committing.stage.turn()
        assert committing.deliveries() == [("sent", 1)] * 3
        assert committing.job_state() is JobState.DELIVERING
        assert committing.asking.turn()
    assert pacs.answers == [0x0000]
    assert committing.deliveries() == [("delivered", 1)] * 3
    assert committing.job_state() is JobState.DONE
    assert not committing.asking.turn()


def test_the_request_names_every_instance_with_its_class_and_a_transaction_of_its_own(silent):
    pacs, committing = silent
    (request,) = pacs.asked
    assert [item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence] == committing.uids
    assert {item.ReferencedSOPClassUID for item in request.ReferencedSOPSequence} == {"1.2.840.10008.5.1.4.1.1.2"}
    assert committing.transactions() == [(request.TransactionUID, None)]


def test_what_the_destination_lost_is_sent_again_later_and_asked_for_anew(engine, objects):
    with CommittingPacs() as pacs:
        committing = Committing(engine, objects, pacs.port)
        pacs.lost = {committing.uids[1]: MISSING}
        committing.stage.turn()
        committing.asking.turn()
        assert committing.deliveries() == [("delivered", 1), ("pending", 1), ("delivered", 1)]
        assert committing.outbox.of_job(committing.job_id)[1].error == "not committed: 0x0112"
        assert not committing.stage.turn()
        pacs.lost = {}
        committing.now += 8
        assert committing.stage.turn()
        assert committing.asking.turn()
    assert pacs.taken == [*committing.uids, committing.uids[1]]
    assert committing.deliveries()[1] == ("delivered", 2)
    assert committing.job_state() is JobState.DONE


def test_what_is_lost_again_and_again_becomes_a_dead_letter_that_retry_revives(engine, objects):
    with CommittingPacs() as pacs:
        committing = Committing(engine, objects[:1], pacs.port)
        pacs.lost = {committing.uids[0]: MISSING}
        for _ in range(3):
            assert committing.stage.turn()
            assert committing.asking.turn()
            committing.now += 100
        assert committing.deliveries() == [("dead", 3)]
        assert committing.job_state() is JobState.FAILED
        assert Ledger(engine).retry(committing.job_id, at=committing.now, who="somebody") is JobState.DELIVERING
        pacs.lost = {}
        committing.stage.turn()
        committing.asking.turn()
    assert committing.job_state() is JobState.DONE


def test_a_class_that_the_destination_never_commits_to_is_refused_at_once(silent):
    _, committing = silent
    committing.report(failed=committing.uids[:1], reason=NOT_SUPPORTED)
    assert committing.deliveries() == [("refused", 1), ("delivered", 1), ("delivered", 1)]
    assert committing.job_state() is JobState.FAILED


def test_a_report_on_an_association_of_its_own_is_noted_before_it_is_answered(silent):
    pacs, committing = silent
    assert committing.deliveries() == [("sent", 1)] * 3
    with report_listener(committing.reports.reported) as port:
        assert pacs.report(port, pacs.asked[0]) == 0x0000
        assert committing.deliveries() == [("delivered", 1)] * 3
        assert committing.transactions()[0][1] == NOW
        assert pacs.report(port, pacs.asked[0]) == 0x0000, "repeated: known, and nothing changes"
    assert committing.deliveries() == [("delivered", 1)] * 3


@pytest.mark.parametrize("roles", [{}, {"scu_role": True, "scp_role": True}], ids=["no role", "both roles"])
def test_a_destination_that_negotiates_its_role_otherwise_may_report_too(silent, roles):
    pacs, committing = silent
    with report_listener(committing.reports.reported) as port:
        assert pacs.report(port, pacs.asked[0], roles=roles) == 0x0000
    assert committing.job_state() is JobState.DONE


def test_a_report_that_nobody_asked_for_is_answered_so_and_changes_nothing(silent):
    pacs, committing = silent
    pacs.asked[0].TransactionUID = "2.25.1"
    with report_listener(committing.reports.reported) as port:
        assert pacs.report(port, pacs.asked[0]) == 0x0115
        del pacs.asked[0].ReferencedSOPSequence[:]
        pacs.asked[0].TransactionUID = ""
        assert pacs.report(port, pacs.asked[0]) == 0x0115
    assert committing.deliveries() == [("sent", 1)] * 3


def test_a_report_of_a_multitude_of_items_is_refused_before_it_is_parsed():
    report = IncomingReport(ImplicitVRLittleEndian, pytest.fail)
    report.write(memoryview(b"\x08\x00\x99\x11" + b"\xff" * 4 + (b"\xfe\xff\x00\xe0" + bytes(4)) * 8001))
    with pytest.raises(NotStored, match="more than 8000 items"):
        report.keep()


def test_a_report_that_cannot_be_noted_now_is_answered_with_failure(silent, monkeypatch):
    pacs, committing = silent

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(committing.outbox, "delivered", full)
    with report_listener(committing.reports.reported) as port:
        assert pacs.report(port, pacs.asked[0]) == 0x0110
    assert committing.deliveries() == [("sent", 1)] * 3


def test_what_a_report_is_silent_about_goes_on_waiting(silent):
    _, committing = silent
    *committing.uids, silent_about = committing.uids
    assert committing.report()
    assert committing.deliveries() == [("delivered", 1), ("delivered", 1), ("sent", 1)]
    assert committing.outbox.of_job(committing.job_id)[2].sop_instance_uid == silent_about


def test_without_a_report_in_time_it_is_asked_again_and_a_late_report_still_counts(silent):
    pacs, committing = silent
    committing.now += TIMEOUT_S - 1
    assert not committing.asking.turn()
    committing.now += 1
    assert committing.asking.turn()
    first, second = committing.transactions()
    assert first[0] != second[0]
    assert committing.deliveries() == [("sent", 2)] * 3
    assert pacs.taken == committing.uids, "nothing is sent again"
    assert committing.report(transaction_uid=first[0])
    assert committing.job_state() is JobState.DONE


def test_a_destination_that_never_reports_ends_in_dead_letters(silent):
    _, committing = silent
    for _ in range(2):
        committing.now += TIMEOUT_S
        assert committing.asking.turn()
    assert committing.deliveries() == [("dead", 2)] * 3
    assert committing.job_state() is JobState.FAILED
    assert committing.outbox.of_job(committing.job_id)[0].error == "no report on commitment within 600 s"
    assert len(committing.transactions()) == 2


@pytest.mark.parametrize(
    ("refuses", "error"),
    [
        ({"commits": False}, "does not accept Storage Commitment"),
        ({"action_status": 0x0213}, "commitment is not given: 0x0213"),
    ],
    ids=["class refused", "N-ACTION refused"],
)
def test_a_destination_that_does_not_commit_is_asked_with_back_off_and_given_up(engine, objects, refuses, error):
    with CommittingPacs(**refuses) as pacs:
        committing = Committing(engine, objects, pacs.port)
        committing.stage.turn()
        assert committing.asking.turn()
        assert committing.deliveries() == [("sent", 2)] * 3
        assert error in committing.outbox.of_job(committing.job_id)[0].error
        assert not committing.asking.turn()
        committing.now += 100
        assert committing.asking.turn()
    assert committing.deliveries() == [("dead", 2)] * 3
    assert len(pacs.taken) == 3


@pytest.mark.parametrize("step", [ASSOCIATE, STORE, HALF_AN_ANSWER])
def test_a_destination_that_hangs_when_it_is_asked_is_given_up_within_its_time_limits(silent, step):
    _, committing = silent
    committing.now += TIMEOUT_S
    with stuck_peer(step) as port:
        peer = replace(peer_at(port), connect_timeout_s=0.5, response_timeout_s=1)
        committing.build(committing.engine, peer)
        began = monotonic()
        assert committing.asking.turn()
        assert monotonic() - began < 8
    assert [state for state, _ in committing.deliveries()] == ["dead"] * 3, (
        "the report that did not come was the second of three attempts"
    )


def test_the_wait_for_a_report_survives_a_restart(silent):
    pacs, committing = silent
    engine = open_engine(committing.engine.url.render_as_string(hide_password=False))
    committing.build(engine, peer_at(pacs.port))
    with report_listener(committing.reports.reported) as port:
        assert pacs.report(port, pacs.asked[0]) == 0x0000
    assert committing.job_state() is JobState.DONE
    engine.dispose()


def test_a_node_that_died_before_its_request_left_asks_when_the_time_is_over(engine, objects, tmp_path):
    with CommittingPacs() as pacs:
        committing = Committing(engine, objects, pacs.port)
        committing.stage.turn()
        waiting = Commitments(engine).to_ask("pacs", at=NOW)
        Commitments(engine).asking(waiting, "2.25.1", at=NOW, until=NOW + TIMEOUT_S)
        committing.now += TIMEOUT_S
        assert committing.asking.turn()
    assert committing.job_state() is JobState.DONE


def test_what_a_dropped_job_has_sent_may_still_be_committed_but_is_not_sent_again(engine, silent):
    _, committing = silent
    Ledger(engine).drop(committing.job_id, at=NOW, who="somebody")
    committing.report(failed=committing.uids[:1])
    assert [state for state, _ in committing.deliveries()] == ["cancelled", "delivered", "delivered"]
    assert committing.job_state() is JobState.DROPPED


def test_a_destination_whose_commitment_is_switched_off_has_what_was_sent(silent):
    _, committing = silent
    committing.outbox.ask_no_more("pacs", at=NOW)
    assert committing.deliveries() == [("delivered", 1)] * 3
    assert committing.job_state() is JobState.DONE


def test_what_waits_for_a_destination_that_is_gone_becomes_a_dead_letter(silent):
    _, committing = silent
    committing.outbox.give_up_on_unknown([], at=NOW)
    assert committing.deliveries() == [("dead", 1)] * 3
