"""What is finished and old leaves, whole; what is not, never does."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from ichnode.domain.job import JobState
from ichnode.domain.reasons import Reason
from ichnode.domain.rules import Rule
from ichnode.metrics import Metrics
from ichnode.stages.decide import decide_study
from ichnode.stages.purge import PurgeStage, RetentionPolicy
from ichnode.storage.check import check
from ichnode.storage.intake import Kept
from ichnode.storage.retention import Retention
from ichnode.storage.schema import metadata
from ichnode.web.jobs import one_job
from tests.finished_study import Clinic

DAY = 86400.0


@pytest.fixture
def clinic(engine, tmp_path):
    return Clinic(engine, tmp_path)


@pytest.fixture
def start_purging(clinic):
    """A purging stage on the clinic's clock; its monotonic clock is one that nobody steps."""

    def start(*, keep_s=30 * DAY, free_bytes=None, at_least_s=DAY, free=lambda: 0, monotonic=lambda: clinic.now):
        metrics = Metrics(sources=[], count_jobs=dict)
        stage = PurgeStage(
            RetentionPolicy(keep_s=keep_s, free_bytes=free_bytes, at_least_s=at_least_s),
            retention=Retention(clinic.engine),
            metrics=metrics,
            free_bytes=free,
            clock=lambda: clinic.now,
            monotonic=monotonic,
        )
        stage.metrics = metrics
        return stage

    return start


def rows(clinic, table):
    with clinic.engine.connect() as db:
        return db.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_the_migrations_lead_to_every_column_and_index_of_the_schema(engine):
    with engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_a_finished_study_leaves_when_it_is_old_enough_and_not_before(clinic, start_purging):
    clinic.finish()
    purging = start_purging()
    clinic.now += 30 * DAY
    assert not purging.turn()
    clinic.now += 1
    assert purging.turn()
    assert (clinic.files(), rows(clinic, "instances")) == ((0, 0), 0)
    assert not purging.turn()


def test_without_limits_nothing_ever_leaves(clinic, start_purging):
    clinic.finish()
    clinic.now += 1000 * DAY
    assert not start_purging(keep_s=None).turn()
    assert clinic.files() == (2, 1)


@pytest.mark.parametrize("unfinished", ["waiting", "ready", "analysing", "delivering", "failed", "dropped"])
def test_what_is_not_processed_and_delivered_is_never_purged(clinic, start_purging, unfinished):
    clinic.receive()
    if unfinished != "waiting":
        clinic.decide()
    if unfinished in ("analysing", "failed"):
        job = clinic.ledger.claim(at=clinic.now)
    if unfinished == "failed":
        for _ in range(2):
            clinic.ledger.fail_attempt(job, reason="crash", detail="", at=clinic.now)
            job = clinic.ledger.claim(at=clinic.now)
        clinic.ledger.fail_attempt(job, reason="crash", detail="", at=clinic.now)
    if unfinished in ("delivering", "dropped"):
        job = clinic.analyse()
    if unfinished == "dropped":
        clinic.ledger.drop(job.id, at=clinic.now, who="somebody")
    before = clinic.files()
    clinic.now += 1000 * DAY
    assert not start_purging(free_bytes=10**18).turn()
    assert clinic.files() == before


def test_a_study_goes_on_waiting_for_its_last_destination(clinic, start_purging):
    clinic.receive()
    clinic.decide(send_to=("pacs", "archive"))
    clinic.analyse()
    clinic.deliver()
    clinic.now += 31 * DAY
    assert not start_purging().turn()


def test_results_that_have_no_destination_and_ignored_series_keep_nothing_here(clinic, start_purging):
    clinic.receive("1")
    clinic.decide("1", send_to=())
    clinic.analyse()
    clinic.receive("2")
    clinic.decide("2", state=JobState.IGNORED)
    clinic.now += 31 * DAY
    purging = start_purging()
    assert [purging.turn() for _ in range(3)] == [True, True, False]


def test_what_a_superseded_job_could_not_deliver_keeps_nothing_here(clinic, start_purging):
    clinic.receive("1", 1)
    clinic.decide()
    clinic.analyse()
    clinic.receive("1", 2)
    clinic.decide(input_sha256="y")
    clinic.analyse()
    clinic.deliver()
    clinic.now += 31 * DAY
    assert start_purging().turn()
    assert clinic.files() == (0, 0)


def test_with_too_little_space_the_oldest_leaves_but_nothing_young(clinic, start_purging):
    clinic.finish("1")
    clinic.now += DAY
    clinic.finish("2")
    clinic.now += DAY / 2
    purging = start_purging(keep_s=None, free_bytes=100, free=lambda: 99)
    assert [purging.turn(), purging.turn()] == [True, False]
    assert [bool(clinic.intake.snapshot(study, last_instance_id=99).series) for study in "12"] == [False, True]


def test_with_enough_space_nothing_leaves(clinic, start_purging):
    clinic.finish()
    clinic.now += 1000 * DAY
    assert not start_purging(keep_s=None, free_bytes=100, free=lambda: 100).turn()


def test_a_clock_that_jumps_forward_makes_nothing_old(clinic, start_purging):
    clinic.finish()
    purging = start_purging(monotonic=lambda: 5.0)
    clinic.now += 400 * DAY
    assert not purging.turn()


def test_a_purge_is_counted_and_stays_known_to_its_job(clinic, start_purging):
    job = clinic.finish()
    clinic.now += 31 * DAY
    purging = start_purging()
    purging.turn()
    shown = one_job(clinic.history, clinic.outbox, clinic.intake, job.id)
    assert shown["purged"] == {"at": clinic.now, "reason": "age", "instances": 2, "results": 1}
    assert 'ichnode_purged_studies_total{reason="age"} 1.0' in purging.metrics.page().decode()
    assert "ichnode_purged_bytes_total 16.0" in purging.metrics.page().decode()


def test_nothing_about_the_patient_stays(clinic, start_purging):
    clinic.finish()
    clinic.now += 31 * DAY
    start_purging().turn()
    with clinic.engine.connect() as db:
        assert set(db.execute(text("SELECT sop_instance_uid FROM purged_instances")).scalars()) == {"1.1.1", "1.1.2"}
        assert (
            db.execute(
                text("SELECT count(*) FROM instances WHERE CAST(header AS TEXT) LIKE '%PatientID%'")
            ).scalar_one()
            == 0
        )


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_not_even_a_look_into_the_file_of_the_database_finds_the_patient(clinic, start_purging, tmp_path):
    clinic.finish()
    clinic.engine.dispose()
    assert b"PatientID" in (tmp_path / "ichnode.db").read_bytes()
    clinic.now += 31 * DAY
    start_purging().turn()
    clinic.engine.dispose()
    assert b"PatientID" not in (tmp_path / "ichnode.db").read_bytes()


def test_quarantined_instances_leave_with_their_study(clinic, start_purging):
    clinic.finish()
    assert clinic.receive("1", 1, sha256="b") is Kept.CONFLICT
    clinic.now += 31 * DAY
    start_purging().turn()
    assert (clinic.files(), rows(clinic, "conflicts")) == ((0, 0), 0)


def test_files_that_a_killed_node_did_not_get_to_remove_are_removed_at_the_next_start(clinic, start_purging):
    clinic.finish()
    clinic.now += 31 * DAY
    Retention(clinic.engine).purge("1", reason="age", received_before=clinic.now, at=clinic.now)
    assert clinic.files() == (2, 1)
    start_purging().remove_discarded()
    assert (clinic.files(), rows(clinic, "discards")) == ((0, 0), 0)


def test_a_file_that_cannot_be_removed_is_tried_again_later(clinic, start_purging, monkeypatch):
    clinic.finish()
    clinic.now += 31 * DAY
    purging = start_purging()

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", read_only)
        purging.turn()
    assert rows(clinic, "discards") == 3
    purging.turn()
    assert clinic.files() == (0, 0)


def test_an_instance_that_comes_in_just_before_the_purge_keeps_the_study(clinic):
    clinic.finish()
    clinic.now += 31 * DAY
    retention = Retention(clinic.engine)
    assert retention.oldest(received_before=clinic.now) == "1"
    clinic.receive("1", 3)
    assert retention.purge("1", reason="age", received_before=clinic.now, at=clinic.now) is None


def test_rows_and_files_agree_after_a_purge(clinic, start_purging):
    clinic.finish("1"), clinic.finish("2")
    clinic.now += 31 * DAY
    Retention(clinic.engine).purge("1", reason="age", received_before=clinic.now, at=clinic.now)
    folders = [clinic.store.folder, clinic.results.folder]
    assert check(clinic.engine, folders, now=0.0).problems == ()
    start_purging().remove_discarded()
    assert check(clinic.engine, folders, now=0.0).problems == ()


def test_the_ids_of_purged_instances_never_come_again(clinic, start_purging):
    clinic.finish()
    clinic.now += 31 * DAY
    start_purging().turn()
    clinic.receive("9", 1)
    assert clinic.intake.waiting_studies()[0].last_instance_id == 3


def decided(clinic, study="1"):
    """What becomes of each series of the study now."""
    snapshot = clinic.intake.snapshot(study, last_instance_id=10**9)
    rule = Rule(name="r", match=(), run=(), send_to=(), priority="routine", report_ignored=False, prefer_thickness_mm=5)
    return {facts.series_instance_uid: decision.reason for facts, decision in decide_study(snapshot, [rule])}


def test_a_late_instance_of_a_purged_series_is_refused_by_name(clinic, start_purging):
    clinic.finish()
    clinic.now += 31 * DAY
    start_purging().turn()
    clinic.receive("1", 3)
    clinic.receive("1", 1, 2, series="1.2")  # a series that came later altogether is judged by itself
    assert decided(clinic)["1.1"] is Reason.PURGED
    assert decided(clinic)["1.2"] is not Reason.PURGED


def test_a_purged_series_that_is_sent_again_whole_is_decided_as_if_nothing_had_been(clinic, start_purging):
    clinic.finish()
    clinic.now += 31 * DAY
    start_purging().turn()
    assert clinic.receive("1", 1, 2, 3) is Kept.NEW
    assert decided(clinic)["1.1"] is not Reason.PURGED


def test_a_purged_study_that_is_sent_again_unchanged_is_not_analysed_again_and_leaves_again(clinic, start_purging):
    clinic.finish()
    clinic.now += 31 * DAY
    purging = start_purging()
    purging.turn()
    clinic.receive()
    assert clinic.decide() == ()
    clinic.now += 31 * DAY
    assert purging.turn()
    assert (clinic.files(), rows(clinic, "purges")) == ((0, 0), 2)


def test_a_job_whose_instances_were_purged_cannot_be_retried(clinic, start_purging):
    clinic.receive()
    clinic.decide()
    job = clinic.ledger.claim(at=clinic.now)
    clinic.ledger.refuse(job, reason="no_brain", detail="", at=clinic.now)
    clinic.now += 31 * DAY
    start_purging().turn()
    assert clinic.ledger.retry(job.id, at=clinic.now, who="somebody") is None


@pytest.mark.parametrize(("state", "leaves"), [("sent", False), ("replaced", True)])
def test_what_waits_for_commitment_stays_and_what_the_summary_page_replaced_leaves(
    clinic, start_purging, state, leaves
):
    clinic.finish()
    with clinic.engine.begin() as db:
        db.execute(text("UPDATE deliveries SET state = :state"), {"state": state})
    clinic.now += 31 * DAY
    assert start_purging().turn() is leaves
