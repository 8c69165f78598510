"""The work list knows every study, in the groups that people ask for, on SQLite and on PostgreSQL."""

import pytest

from ichnode.domain.audit import AuditEvent
from ichnode.domain.job import JobState
from ichnode.storage.audit import AuditTrail
from ichnode.storage.overview import Overview
from ichnode.storage.retention import Retention
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
