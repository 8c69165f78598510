"""Judgements in the ledger, and the rejection notes that come of them, on SQLite and on PostgreSQL."""

from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from ichnode.dicom.scu import Outcome
from ichnode.dicom.statuses import Verdict as DeliveryVerdict
from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.domain.job import JobState
from ichnode.errors import NothingToJudge
from ichnode.metrics import Metrics
from ichnode.stages.deliver import DeliverStage, RetryPolicy
from ichnode.stages.fallback import Fallback
from ichnode.stages.withdraw import TRIED_AGAIN_S
from ichnode.storage.audit import AuditTrail
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.storage.retention import Retention
from ichnode.storage.schema import jobs
from tests.judgement_factory import ACCEPTED, REJECTED, JudgedClinic

DAY = 86_400.0


@pytest.fixture
def clinic(engine, tmp_path):
    return JudgedClinic(engine, tmp_path)


@pytest.fixture
def done(clinic):
    """A job whose results the PACS took."""
    job = clinic.analysed()
    clinic.deliver()
    return clinic.history.job(job.id)


def audited(clinic):
    return [row for row in AuditTrail(clinic.engine).rows() if row.event == AuditEvent.JUDGED]


# ------------------------------------------------------------------ judging


def test_a_later_judgement_stands_beside_the_earlier_one(clinic, done):
    clinic.judgements.record(done.id, ACCEPTED, who="ben", at=1.0, withdraw=False)
    clinic.judgements.record(done.id, REJECTED, who="anna", at=2.0, withdraw=False)
    first, second = clinic.judgements.of_job(done.id)
    assert (first.who, first.opinion, first.at) == ("ben", ACCEPTED, 1.0)
    assert (second.who, second.opinion, second.predicted_ml) == ("anna", REJECTED, 31.5)
    assert (second.bundle, second.bundle_version, second.study_instance_uid) == ("hematoma", "0.7", "1")
    assert clinic.judgements.all() == [first, second]
    assert clinic.judgements.count() == {("hematoma 0.7", "accepted"): 1, ("hematoma 0.7", "rejected"): 1}


def test_a_judgement_is_audited_with_who_and_without_its_comment(clinic, done):
    clinic.reject(done)
    (row,) = audited(clinic)
    assert row.who == "anna"
    assert row.what == {
        "job": done.id,
        "study": pseudonym("1"),
        "verdict": "rejected",
        "reason": "missed",
        "corrected_ml": 36.0,
        "withdraws": True,
    }
    assert AuditTrail(clinic.engine).verify() == []


def test_a_second_click_adds_nothing(clinic, done):
    assert clinic.reject(done, withdraw=False) == clinic.reject(done, withdraw=False)
    assert len(audited(clinic)) == 1
    clinic.reject(done, who="ben", withdraw=False)
    clinic.reject(done, who="ben")  # the rule withdraws by now
    assert [j.withdraws for j in clinic.judgements.of_job(done.id)] == [False, False, True]


@pytest.mark.parametrize("statement", ["UPDATE judgements SET verdict = 'accepted'", "DELETE FROM judgements"])
def test_a_judgement_is_never_changed(clinic, done, statement):
    clinic.reject(done)
    with pytest.raises(DBAPIError), clinic.engine.begin() as db:
        db.execute(text(statement))


def test_what_has_no_results_cannot_be_judged(clinic):
    with pytest.raises(NothingToJudge, match="no job 7"):
        clinic.judgements.judgeable(7)
    clinic.receive()
    clinic.decide()
    with pytest.raises(NothingToJudge, match="still being analysed"):
        clinic.judgements.record(1, ACCEPTED, who="anna", at=1.0, withdraw=False)
    clinic.analyse()
    with pytest.raises(NothingToJudge, match="nothing was analysed"):  # its one result says why
        clinic.judgements.record(1, ACCEPTED, who="anna", at=1.0, withdraw=False)
    assert clinic.judgements.all() == []


def test_a_hostile_name_is_only_text(clinic, done):
    clinic.judgements.record(done.id, ACCEPTED, who="a\0'; DROP TABLE jobs; --", at=1.0, withdraw=False)
    assert "DROP TABLE" in clinic.judgements.all()[0].who


def test_judgements_are_counted_by_version_of_the_model_also_after_a_restart(clinic, done):
    clinic.judgements.record(done.id, ACCEPTED, who="ben", at=1.0, withdraw=False)
    clinic.reject(done)
    for _ in range(2):
        page = Metrics(sources=[], count_jobs=dict, count_judgements=clinic.judgements.count).page().decode()
        for verdict in ("accepted", "rejected"):
            assert f'ichnode_judgements_total{{bundle="hematoma 0.7",verdict="{verdict}"}} 1.0' in page


# ------------------------------------------------------------------ withdrawing


def test_without_the_rule_a_rejection_changes_nothing_at_the_destination(clinic, done):
    clinic.reject(done, withdraw=False)
    assert not clinic.withdrawing.turn()
    assert clinic.notes(done) == []


def test_a_rejection_becomes_one_note_in_the_outbox(clinic, done):
    clinic.reject(done)
    assert clinic.withdrawing.turn()
    assert not clinic.withdrawing.turn()
    (note,) = clinic.notes(done)
    read = dcmread(note.file)
    assert (read.SOPInstanceUID, read.StudyInstanceUID, read.SeriesNumber) == (note.sop_instance_uid, "1", 9112)
    (study,) = read.CurrentRequestedProcedureEvidenceSequence
    named = {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
    assert named == {r.sop_instance_uid for r in clinic.history.results(done.id)} - {note.sop_instance_uid}
    assert clinic.states(done) == {
        "segmentation": "delivered",
        "measurement_report": "delivered",
        "rejection_note": "pending",
    }
    assert clinic.history.job(done.id).state is JobState.DONE
    assert clinic.woken == 1
    clinic.deliver()
    assert clinic.states(done)["rejection_note"] == "delivered"
    assert clinic.history.job(done.id).state is JobState.DONE


def test_what_was_rejected_once_is_not_withdrawn_twice_and_accepting_brings_nothing_back(clinic, done):
    clinic.reject(done)
    clinic.withdrawing.turn()
    clinic.reject(done, who="ben")
    clinic.judgements.record(done.id, ACCEPTED, who="anna", at=clinic.now, withdraw=True)
    assert not clinic.withdrawing.turn()
    assert len(clinic.notes(done)) == 1
    assert [j.withdraws for j in clinic.judgements.of_job(done.id)] == [True, False, False]


def test_a_job_on_its_way_is_dropped_and_only_what_was_taken_is_withdrawn(clinic):
    job = clinic.analysed()
    clinic.deliver_to("pacs", "segmentation")
    clinic.reject(job)
    assert clinic.history.job(job.id).state is JobState.DROPPED
    clinic.withdrawing.turn()
    assert clinic.states(job) == {
        "segmentation": "delivered",
        "measurement_report": "cancelled",
        "rejection_note": "pending",
    }
    (note,) = clinic.notes(job)
    assert [i.ValueType for i in dcmread(note.file).ContentSequence if "ReferencedSOPSequence" in i] == ["IMAGE"]


def test_what_nobody_took_needs_no_note(clinic):
    job = clinic.analysed()
    clinic.reject(job)
    assert clinic.withdrawing.turn()
    assert clinic.notes(job) == []
    assert not clinic.withdrawing.turn()


def test_each_destination_gets_a_note_of_what_it_took(clinic):
    job = clinic.analysed(send_to=("pacs", "archive", "lab"))
    for destination in ("pacs", "archive"):
        clinic.deliver_to(destination)
    clinic.deliver_to("lab", "segmentation")
    clinic.reject(job)
    clinic.withdrawing.turn()
    both, one = clinic.notes(job)
    of_note = {
        n.sop_instance_uid: [d.destination for d in clinic.outbox.of_job(job.id) if d.file == n.file]
        for n in (both, one)
    }
    assert of_note == {both.sop_instance_uid: ["archive", "pacs"], one.sop_instance_uid: ["lab"]}


@pytest.mark.parametrize("commits", [False, True])
def test_what_was_taken_while_it_was_rejected_gets_a_note_too(clinic, commits):
    job = clinic.analysed()
    in_flight = clinic.outbox.due("pacs", at=clinic.now)
    clinic.reject(job)
    clinic.withdrawing.turn()
    for delivery in in_flight:
        (clinic.outbox.sent if commits else clinic.outbox.delivered)(delivery, status=0, at=clinic.now)
    assert clinic.withdrawing.turn()
    assert len(clinic.notes(job)) == 1
    assert not clinic.withdrawing.turn()


def test_a_kill_before_the_commit_repeats_the_same_note(clinic, done, monkeypatch):
    kept = []
    monkeypatch.setattr(
        clinic.withdrawals, "add_notes", lambda _, notes, at: 1 / 0 if kept.extend(notes) is None else 0
    )
    clinic.reject(done)
    with pytest.raises(ZeroDivisionError):
        clinic.withdrawing.turn()
    assert not Path(kept[0].file).exists()
    monkeypatch.undo()
    clinic.now += 1000
    clinic.stage().turn()
    (note,) = clinic.notes(done)
    assert note.sop_instance_uid == kept[0].sop_instance_uid
    assert note.series_instance_uid == kept[0].series_instance_uid


def test_two_nodes_make_one_note(clinic, done):
    clinic.reject(done)
    seen = clinic.withdrawals.next()
    clinic.stage().turn()
    assert not clinic.withdrawals.add_notes(seen, clinic.notes(done), at=clinic.now)
    assert len(clinic.notes(done)) == 1


def test_a_job_whose_files_are_unreadable_stops_no_other(clinic, done):
    for result in clinic.history.results(done.id):
        Path(result.file).write_bytes(b"")
    clinic.reject(done)
    other = clinic.analysed("2")
    clinic.deliver()
    clinic.reject(other)
    assert [clinic.withdrawing.turn() for _ in range(3)] == [True, True, False]
    assert (len(clinic.notes(done)), len(clinic.notes(other))) == (0, 1)


def test_a_note_that_cannot_be_composed_holds_up_no_other(clinic, done, monkeypatch):
    clinic.reject(done)
    other = clinic.analysed("2")
    clinic.deliver()
    clinic.reject(other)
    compose = clinic.withdrawing._compose

    def broken(withdrawal, taken):
        if withdrawal.job.id == done.id:
            raise TypeError("a fault of ichnode")
        return compose(withdrawal, taken)

    monkeypatch.setattr(clinic.withdrawing, "_compose", broken)
    with pytest.raises(TypeError):
        clinic.withdrawing.turn()
    assert [clinic.withdrawing.turn() for _ in range(2)] == [True, False]
    assert (len(clinic.notes(done)), len(clinic.notes(other))) == (0, 1)


def test_a_note_names_a_model_of_which_an_older_ichnode_told_less(clinic, done):
    with clinic.engine.begin() as db:
        db.execute(update(jobs).values(findings={"model": {"name": "old", "version": "0", "added_later": 1}}))
    clinic.reject(done)
    assert clinic.withdrawing.turn()
    assert len(clinic.notes(done)) == 1


def test_the_note_is_made_when_the_files_are_back(clinic, done):
    files = {Path(result.file): Path(result.file).read_bytes() for result in clinic.history.results(done.id)}
    for file in files:
        file.write_bytes(bytes(128) + b"DICM" + b"\2")
    clinic.reject(done)
    assert [clinic.withdrawing.turn() for _ in range(2)] == [True, False]
    for file, content in files.items():
        file.write_bytes(content)
    clinic.now += TRIED_AGAIN_S
    assert [clinic.withdrawing.turn() for _ in range(2)] == [True, False]
    assert len(clinic.notes(done)) == 1


def test_a_dead_note_is_sent_again_and_nothing_else(clinic):
    job = clinic.analysed()
    clinic.deliver_to("pacs", "segmentation")
    clinic.reject(job)
    clinic.withdrawing.turn()
    assert clinic.ledger.retry(job.id, at=clinic.now, who="somebody") is None
    (delivery,) = clinic.outbox.due("pacs", at=clinic.now)
    clinic.outbox.dead(delivery, status=None, error="gone", at=clinic.now)
    assert clinic.ledger.retry(job.id, at=clinic.now, who="somebody") is JobState.DROPPED
    assert clinic.states(job) == {
        "segmentation": "delivered",
        "measurement_report": "cancelled",
        "rejection_note": "pending",
    }


def test_a_note_that_is_not_kept_is_sent_again(clinic, done):
    clinic.reject(done)
    clinic.withdrawing.turn()
    (delivery,) = clinic.outbox.due("pacs", at=clinic.now)
    clinic.outbox.sent(delivery, status=0, at=clinic.now)
    (delivery,) = [d for d in clinic.outbox.of_job(done.id) if d.state == "sent"]
    clinic.outbox.send_again(delivery, status=0x0112, error="lost", until=clinic.now)
    assert clinic.states(done)["rejection_note"] == "pending"


def test_a_later_job_of_the_series_does_not_keep_the_note_here(clinic, done):
    clinic.reject(done)
    clinic.withdrawing.turn()
    clinic.receive("1", 3)
    clinic.decide(input_sha256="y")
    assert clinic.states(done)["rejection_note"] == "pending"


def test_the_summary_page_does_not_stand_in_for_a_note(clinic, done):
    clinic.reject(done)
    clinic.withdrawing.turn()
    fallback = Fallback(
        "pacs",
        outbox=clinic.outbox,
        refused=RefusedClasses(clinic.engine),
        offer_again_s=DAY,
        clock=lambda: clinic.now,
    )
    with clinic.engine.begin() as db:
        db.execute(text("UPDATE results SET role = 'summary_page' WHERE role = 'segmentation'"))
    (delivery,) = clinic.outbox.due("pacs", at=clinic.now)
    assert not fallback.replaces(delivery, Outcome(verdict=DeliveryVerdict.UNSUPPORTED, status=None, detail=""))


def test_a_rejected_study_leaves_once_its_note_is_delivered(clinic):
    job = clinic.analysed()
    clinic.deliver_to("pacs", "segmentation")
    clinic.reject(job)
    clinic.now += DAY
    retention = Retention(clinic.engine)
    assert retention.oldest(received_before=clinic.now) is None  # the note is still to be made
    clinic.withdrawing.turn()
    assert retention.oldest(received_before=clinic.now) is None
    clinic.deliver()
    assert retention.oldest(received_before=clinic.now) == "1"
    assert retention.purge("1", reason="age", received_before=clinic.now, at=clinic.now)
    assert len(clinic.judgements.of_job(job.id)) == 1


def test_what_was_purged_is_judged_but_not_withdrawn(clinic, done):
    Retention(clinic.engine).purge("1", reason="age", received_before=clinic.now + 1, at=clinic.now)
    assert not clinic.reject(done).withdraws
    assert not clinic.withdrawing.turn()


def test_what_is_still_to_be_sent_in_the_same_turn_is_not_sent_any_more(clinic):
    job, offered = clinic.analysed(), []

    def send(objects):
        for outgoing in objects:
            offered.append(outgoing.sop_instance_uid)
            clinic.reject(job)
            yield [Outcome(verdict=DeliveryVerdict.DELIVERED, status=0, detail="")]

    stage = DeliverStage(
        "pacs",
        send=send,
        commits=False,
        fallback=None,
        outbox=clinic.outbox,
        history=clinic.history,
        metrics=Metrics(sources=[], count_jobs=dict),
        retry=RetryPolicy(first_s=1, cap_s=1, max_attempts=3),
        clock=lambda: clinic.now,
    )
    stage.turn()
    assert len(offered) == 1
    assert clinic.states(job) == {"segmentation": "delivered", "measurement_report": "cancelled"}
