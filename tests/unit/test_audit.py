"""The audit trail only grows, tells everything that happened, and shows where somebody tampered with it."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.errors import StaleClaim
from ichnode.storage.audit import AuditTrail, append_audit
from ichnode.storage.retention import Retention
from tests.finished_study import Clinic


@pytest.fixture
def clinic(engine, tmp_path):
    return Clinic(engine, tmp_path)


@pytest.fixture
def trail(engine):
    return AuditTrail(engine)


@pytest.fixture
def tamper(engine):
    """What an administrator of the machine can do: drop the triggers and write."""

    def tamper(*statements):
        with engine.begin() as db:
            if engine.dialect.name == "sqlite":
                query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            else:
                query = "SELECT tgname || ' ON ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'audit%'"
            for trigger in db.execute(text(query)).scalars().all():
                db.execute(text(f"DROP TRIGGER {trigger}"))
            for statement in statements:
                db.execute(text(statement))

    return tamper


def told(trail):
    return [(row.event, row.outcome) for row in trail.rows()]


def test_a_study_leaves_its_whole_story_in_the_trail(clinic, trail):
    job = clinic.finish()
    clinic.now += 10
    Retention(clinic.engine).purge("1", reason="age", received_before=clinic.now, at=clinic.now)
    assert told(trail) == [
        ("association_opened", "success"),
        ("instances_received", "success"),
        ("job_decided", "success"),
        ("results_delivered", "success"),
        ("job_ended", "success"),
        ("study_purged", "success"),
    ]
    received, decided = list(trail.rows())[1:3]
    assert (received.who, received.what["studies"]) == ("CT", {pseudonym("1"): {"1.2.840.10008.5.1.4.1.1.2": 2}})
    assert (decided.what["job"], decided.what["reason"]) == (job.id, "chosen")
    assert trail.verify() == []


def test_failures_and_the_hand_of_a_person_are_told(clinic, trail):
    clinic.receive()
    clinic.decide()
    job = clinic.analyse()
    clinic.outbox.refused(clinic.outbox.due("pacs", at=clinic.now)[0], status=0xA900, error="no", at=clinic.now)
    clinic.ledger.retry(job.id, at=clinic.now, who="somebody")
    clinic.ledger.drop(job.id, at=clinic.now, who="somebody")
    assert told(trail)[-4:] == [
        ("results_delivered", "failure"),
        ("job_ended", "failure"),
        ("job_revived", "success"),
        ("job_ended", "success"),
    ]
    assert [row.who for row in trail.rows()][-3:] == ["ichnode", "somebody", "somebody"]


def test_an_association_that_a_killed_node_left_open_is_told_at_the_start_and_once(clinic, trail):
    clinic.intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=1.0)
    for _ in range(2):
        clinic.intake.close_lost_associations(at=2.0)
    assert told(trail) == [("association_opened", "success"), ("instances_received", "failure")]


def test_what_was_not_committed_is_not_told(clinic, trail):
    clinic.finish()
    before = trail.end()
    with pytest.raises(StaleClaim):
        clinic.ledger.refuse(clinic.history.list_jobs()[0], reason="no_brain", detail="", at=clinic.now)
    with clinic.engine.connect() as db, db.begin() as transaction:
        append_audit(db, AuditEvent.JUDGED, who="x", what={}, at=1.0)
        transaction.rollback()
    assert (trail.end(), trail.verify()) == (before, [])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'x' WHERE sequence = 1",
        "DELETE FROM audit WHERE sequence = 1",
        "UPDATE audit_head SET sequence = 1",
        "DELETE FROM audit_head",
        "INSERT OR REPLACE INTO audit_head VALUES (1, 0, 'x')",
        "INSERT OR REPLACE INTO audit VALUES (1, 1.0, 'x', 'x', '{}', 'x', 'x', 'x')",
    ],
)
def test_rows_are_neither_changed_nor_deleted(clinic, trail, statement):
    clinic.finish()
    with pytest.raises(SQLAlchemyError), clinic.engine.begin() as db:
        db.execute(text(statement))
    assert trail.verify() == []


@pytest.mark.parametrize(
    ("statements", "sequence", "detail"),
    [
        (["UPDATE audit SET who = 'NOBODY' WHERE sequence = 3"], 3, "altered"),
        (["UPDATE audit SET at = at + 0.001 WHERE sequence = 3"], 3, "altered"),
        (
            ["UPDATE audit SET what = CAST(REPLACE(CAST(what AS TEXT), 'ch', 'x') AS JSON) WHERE sequence = 3"],
            3,
            "altered",
        ),
        (["UPDATE audit SET outcome = 'failure' WHERE sequence = 1"], 1, "altered"),
        (["DELETE FROM audit WHERE sequence = 1"], 1, "missing"),
        (["DELETE FROM audit WHERE sequence = 3"], 3, "missing"),
        (["DELETE FROM audit WHERE sequence = 5"], 5, "missing"),
        (["DELETE FROM audit WHERE sequence >= 3"], 3, "and so on to 5"),
        (["DELETE FROM audit"], 1, "and so on to 5"),
        (["DELETE FROM audit WHERE sequence = 3", "UPDATE audit SET sequence = 3 WHERE sequence = 4"], 3, "altered"),
    ],
)
def test_one_altered_or_removed_row_is_found_and_named(clinic, trail, tamper, statements, sequence, detail):
    clinic.finish()
    tamper(*statements)
    found = trail.verify()
    assert found[0].sequence == sequence
    assert detail in found[0].detail
    if "DELETE" not in statements[0]:
        assert len(found) == 1


def test_two_rows_that_changed_places_are_found_and_named(clinic, trail, tamper):
    clinic.finish()
    tamper(*(f"UPDATE audit SET sequence = {b} WHERE sequence = {a}" for a, b in ((2, 99), (3, 2), (99, 3))))
    assert [one.sequence for one in trail.verify()][:2] == [2, 3]


def test_a_row_with_a_hash_made_anew_no_longer_leads_to_the_next(clinic, trail, tamper):
    clinic.finish()
    row = list(trail.rows())[2]
    forged = type(row)(**{n: getattr(row, n) for n in row.__slots__} | {"who": "NOBODY"})
    tamper(f"UPDATE audit SET who = 'NOBODY', sha256 = '{forged.expected_sha256}' WHERE sequence = 3")
    assert [(one.sequence, "does not follow" in one.detail) for one in trail.verify()] == [(4, True)]


def test_a_last_row_with_a_hash_made_anew_is_not_the_one_that_was_appended(clinic, trail, tamper):
    clinic.finish()
    row = list(trail.rows())[-1]
    forged = type(row)(**{n: getattr(row, n) for n in row.__slots__} | {"who": "NOBODY"})
    tamper(f"UPDATE audit SET who = 'NOBODY', sha256 = '{forged.expected_sha256}' WHERE sequence = {row.sequence}")
    assert [one.sequence for one in trail.verify()] == [row.sequence]


def test_no_row_says_a_uid_or_a_patient(clinic, trail):
    clinic.finish("1.2.826.77")
    said = json.dumps([dict(row.what) for row in trail.rows()])
    assert "1.2.826.77" not in said
    assert pseudonym("1.2.826.77") in said


def test_a_collector_goes_on_where_it_was(trail, engine):
    assert trail.position("a:1") == 0
    trail.reached("a:1", 7)
    trail.reached("a:1", 9)
    assert (AuditTrail(engine).position("a:1"), trail.position("b:1")) == (9, 0)


def test_a_time_without_a_fraction_is_hashed_as_it_is_read(trail):
    trail.append(AuditEvent.JUDGED, who="x", what={"é": [1, 2.5, None]}, at=7)
    assert trail.verify() == []
