"""The work list knows every study, in the groups that people ask for, on SQLite and on PostgreSQL."""

from contextlib import contextmanager

import pytest
from sqlalchemy import event, update

from ichnode.domain.audit import AuditEvent
from ichnode.domain.job import JobState
from ichnode.storage.audit import AuditTrail
from ichnode.storage.dialect import reading
from ichnode.storage.overview import Overview
from ichnode.storage.retention import Retention
from ichnode.storage.schema import deliveries
from ichnode.storage.worklist import Group, WorkList
from tests.finished_study import Clinic


@pytest.fixture
def clinic(engine, tmp_path):
    return Clinic(engine, tmp_path)


@pytest.fixture
def work_list(engine):
    return WorkList(engine)


def shown(work_list, group):
    return [study.study_instance_uid for study in work_list.newest(group, limit=10)]


def test_each_group_has_its_studies_the_latest_first(clinic, work_list):
    clinic.finish("1")  # done
    clinic.receive("2")  # no snapshot yet
    clinic.receive("3")
    clinic.decide("3")
    clinic.ledger.refuse(clinic.ledger.claim(at=1.0), reason="no_brain", detail="", at=1.0)
    clinic.receive("4")
    clinic.decide("4", decision="ignore", state=JobState.IGNORED)
    clinic.receive("5")
    clinic.decide("5")
    assert {group: shown(work_list, group) for group in Group} == {
        Group.ALL: ["5", "4", "3", "2", "1"],
        Group.ON_THE_WAY: ["5", "2"],
        Group.ATTENTION: ["3"],
        Group.DONE: ["1"],
        Group.NOT_ANALYSED: ["4"],
    }
    last = work_list.newest(Group.ALL, limit=2)[-1].last_instance_id
    assert [s.study_instance_uid for s in work_list.newest(Group.ALL, limit=2, before=last)] == ["3", "2"]


def test_a_study_has_its_series_jobs_steps_and_deliveries(clinic, work_list):
    clinic.receive("1", 1, 2)
    clinic.receive("1", 1, series="1.2")
    clinic.decide("1", send_to=("pacs", "archive"))
    job = clinic.analyse()
    clinic.deliver()
    study = work_list.study("1")
    assert (study.source, study.evidence, study.waiting, study.purged_at) == ("CT", "quiet", False, None)
    first, second = study.series
    assert [(s.series_instance_uid, s.instances, len(s.jobs)) for s in (first, second)] == [
        ("1.1", 2, 1),
        ("1.2", 1, 0),
    ]
    [listed] = first.jobs
    assert listed.job == job
    assert [event.to_state for event in listed.events] == ["ready", "analysing", "delivering"]
    assert listed.deliveries == {"archive": {"pending": 1}, "pacs": {"delivered": 1}}
    assert work_list.study("2") is None


def test_a_purged_study_stays_in_the_list_without_its_header(clinic, work_list, engine):
    clinic.finish("1")
    clinic.now += 10
    Retention(engine).purge("1", reason="age", received_before=clinic.now, at=clinic.now)
    study = work_list.study("1")
    assert (study.purged_at, study.source, study.file, study.header) == (clinic.now, None, None, {})
    assert [series.instances for series in study.series] == [0]


def test_the_mark_changes_with_instances_steps_and_whatever_is_audited(clinic, work_list, engine):
    marks = [work_list.mark()]
    for happens in (clinic.receive, clinic.decide, clinic.analyse):
        happens()
        marks.append(work_list.mark())
    AuditTrail(engine).append(AuditEvent.JUDGED, who="x", what={}, at=1.0)
    marks.append(work_list.mark())
    assert len(set(marks)) == len(marks)
    AuditTrail(engine).append(AuditEvent.RESULTS_VIEWED, who="x", what={}, at=1.0)
    assert work_list.mark() == marks[-1]


def test_what_a_destination_took_last_and_what_it_does_not_take_is_told(clinic, engine):
    assert Overview(engine).at_destinations() == {}
    clinic.finish("1")
    clinic.now = 2000.0
    clinic.receive("2")
    clinic.decide("2")
    clinic.analyse()
    [delivery] = clinic.outbox.due("pacs", at=clinic.now)
    clinic.outbox.postponed(delivery, status=None, error="no route to host", until=9000.0)
    fares = Overview(engine).at_destinations()["pacs"]
    assert (fares.delivered_at, fares.error, fares.error_job_id) == (1000.0, "no route to host", 2)
    assert fares.next_attempt_at == 9000.0


def test_the_next_attempt_is_the_earliest_to_send_or_to_ask_for_commitment(clinic, engine):
    for study, until in (("1", 5000.0), ("2", 4000.0)):
        clinic.receive(study)
        clinic.decide(study)
        clinic.analyse()
        [delivery] = clinic.outbox.due("pacs", at=clinic.now)
        clinic.outbox.postponed(delivery, status=None, error="no route to host", until=until)
    assert Overview(engine).at_destinations()["pacs"].next_attempt_at == 4000.0
    first, _ = clinic.outbox.of_job(1) + clinic.outbox.of_job(2)
    clinic.outbox.sent(first, status=0, at=3000.0)
    assert Overview(engine).at_destinations()["pacs"].next_attempt_at == 3000.0


def test_everything_that_waits_for_a_destination_is_due_at_once_and_the_trail_says_who(clinic, engine):
    for study in ("1", "2"):
        clinic.receive(study)
        clinic.decide(study, send_to=("pacs", "archive"))
        clinic.analyse()
    for delivery in clinic.outbox.of_job(1) + clinic.outbox.of_job(2):
        clinic.outbox.postponed(delivery, status=None, error="no route to host", until=9000.0)
    clinic.outbox.dead(clinic.outbox.of_job(2)[0], status=None, error="enough", at=1000.0)
    assert clinic.outbox.try_now("pacs", at=2000.0, who="somebody") == 1
    assert [(d.job_id, d.attempts) for d in clinic.outbox.due("pacs", at=2000.0)] == [(1, 0)]
    assert clinic.outbox.due("archive", at=2000.0) == []
    assert clinic.outbox.try_now("nobody", at=2000.0, who="somebody") == 0
    trail = [row for row in AuditTrail(engine).rows() if row.event == AuditEvent.DESTINATION_RETRIED]
    assert [(row.who, row.what) for row in trail] == [("somebody", {"destination": "pacs", "results": 1})]


def test_what_is_tried_at_once_stays_due_though_the_attempt_in_flight_fails(clinic, engine):
    clinic.receive("1")
    clinic.decide("1", send_to=("pacs",))
    clinic.analyse()
    for _ in range(3):
        [delivery] = clinic.outbox.of_job(1)
        clinic.outbox.postponed(delivery, status=None, error="no route to host", until=9000.0)
    for ends in ("postponed", "dead"):
        [in_flight] = clinic.outbox.due("pacs", at=9000.0)
        clinic.outbox.try_now("pacs", at=2000.0, who="somebody")
        when = {"until": 9999.0} if ends == "postponed" else {"at": 3000.0}
        getattr(clinic.outbox, ends)(in_flight, status=None, error="no route to host", **when)
        [delivery] = clinic.outbox.of_job(1)
        assert (delivery.state, delivery.attempts, delivery.next_attempt_at) == ("pending", 1, 2000.0)
        for _ in range(3):
            [delivery] = clinic.outbox.of_job(1)
            clinic.outbox.postponed(delivery, status=None, error="no route to host", until=9000.0)


def test_a_result_that_another_stood_in_for_hides_no_dead_one_before_it(clinic, engine):
    for study in ("1", "2", "3"):
        clinic.receive(study)
        clinic.decide(study, send_to=("pacs", "archive"))
        clinic.analyse()
    first, second, third = clinic.history.list_jobs()[::-1]
    with engine.begin() as db:
        for job, state in ((first, "dead"), (second, "replaced"), (third, "replaced")):
            row = deliveries.c.job_id == job.id, deliveries.c.destination == "pacs"
            db.execute(update(deliveries).where(*row).values(state=state, error=f"{state} {job.id}"))
    fares = Overview(engine).at_destinations()
    assert (fares["pacs"].error, fares["pacs"].error_job_id) == (f"dead {first.id}", first.id)
    assert (fares["archive"].error, fares["archive"].delivered_at) == (None, None)


def test_the_trouble_of_a_job_that_a_person_dropped_is_told_no_more(clinic, engine):
    clinic.receive("1")
    clinic.decide("1", send_to=("pacs",))
    clinic.analyse()
    [delivery] = clinic.outbox.of_job(1)
    clinic.outbox.postponed(delivery, status=None, error="no route to host", until=9000.0)
    assert Overview(engine).at_destinations()["pacs"].error == "no route to host"
    assert clinic.ledger.drop(1, at=2000.0, who="somebody")
    assert Overview(engine).at_destinations()["pacs"].error is None


@contextmanager
def plans(engine):
    """How the database goes about each statement of the block; PostgreSQL as if its tables were large."""
    statements, found = [], []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)
    sqlite = engine.dialect.name == "sqlite"
    with reading(engine) as db:
        if not sqlite:
            for wide in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
                db.exec_driver_sql(f"SET {wide} = off")
        for statement, parameters in statements:
            rows = db.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{statement}", parameters)
            found += [str(row[-1]) for row in rows]
        db.invalidate()


@pytest.mark.parametrize(
    ("ask", "indexes"),
    [
        (
            lambda engine: Overview(engine).at_destinations(),
            ("ix_deliveries_delivered", "ix_deliveries_wrong", "ix_deliveries_due"),
        ),
        (lambda engine: Overview(engine).last_start(), ("ix_audit_event",)),
        (lambda engine: WorkList(engine).newest(Group.ALL, limit=50), ("ix_studies_last_instance",)),
        (lambda engine: WorkList(engine).newest(Group.ALL, limit=50, before=9), ("ix_studies_last_instance",)),
    ],
    ids=["destinations", "start", "studies", "earlier studies"],
)
def test_what_pages_ask_for_reads_no_table_whole(clinic, engine, ask, indexes):
    clinic.finish("1")
    with plans(engine) as found:
        ask(engine)
    assert all(any(index in line for line in found) for index in indexes), found
    whole = [line for line in found if line.startswith(("SCAN ", "Seq Scan")) and "USING" not in line]
    assert not [line for line in whole if any(table in line for table in ("deliveries", "audit", "studies"))]


def test_the_size_of_all_instances_is_summed_once_a_minute(clinic, engine):
    now = 0.0
    overview = Overview(engine, clock=lambda: now)
    assert overview.stored_bytes() == 0
    clinic.receive("1")
    now = 59.0
    assert overview.stored_bytes() == 0
    now = 60.0
    assert overview.stored_bytes() == clinic.intake.stored_bytes() > 0
