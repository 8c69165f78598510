"""Jobs change state only along the table, once, and tell their story."""

from dataclasses import asdict, replace
from importlib.resources import files
from itertools import count

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError

from ichnode.domain.audit import AuditEvent
from ichnode.domain.findings import Caveat, Findings, Hematoma, HematomaPart, HemorrhageType, ModelIdentity, Side
from ichnode.domain.job import MAX_INTERRUPTIONS, TRANSITIONS, JobState
from ichnode.domain.reasons import Reason
from ichnode.domain.study import Instance
from ichnode.errors import StaleClaim
from ichnode.storage.audit import AuditTrail
from ichnode.storage.dialect import new_engine, reading
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake, Kept
from ichnode.storage.ledger import Ledger
from ichnode.storage.outbox import Outbox
from ichnode.storage.schema import metadata, open_engine
from ichnode.web.jobs import one_job
from tests.planned_job import planned_job

NOW = 1000.0


@pytest.fixture
def ledger(engine):
    return Ledger(engine)


@pytest.fixture
def history(engine):
    return History(engine)


@pytest.fixture
def outbox(engine):
    return Outbox(engine)


@pytest.fixture
def receive(engine, tmp_path):
    """Receive one more instance of study "1"."""
    intake = Intake(engine)
    association = intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=NOW)

    def receive(number=1, *, sha256="a", at=NOW):
        (tmp_path / str(number)).touch()
        instance = Instance(
            sop_instance_uid=f"1.1.{number}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            series_instance_uid="1.1",
            study_instance_uid="1",
            transfer_syntax_uid="1.2.840.10008.1.2",
            file=str(tmp_path / str(number)),
            header={"InstanceNumber": number},
            association_id=association,
            received_at=at,
        )
        return intake.keep(instance, sha256=sha256, size_bytes=10)

    return receive


@pytest.fixture
def planned():
    """A plan for the series of study "1"."""

    def planned(**plan):
        return planned_job(**{"series_instance_uid": "1.1", "send_to": ("pacs", "archive")} | plan)

    return planned


@pytest.fixture
def decide(engine, ledger, planned):
    """Take a snapshot of study "1" with one planned job for its series."""

    def decide(**plan):
        waiting = Intake(engine).waiting_studies()[0]
        return ledger.record_decisions(
            "1",
            [planned(**plan)],
            last_instance_id=waiting.last_instance_id,
            last_received_at=NOW,
            evidence="quiet",
            at=NOW,
        )

    return decide


def results(*roles):
    return [
        ResultFile(role=role, sop_instance_uid=f"2.{i}", sop_class_uid="3", series_instance_uid="4", file=f"/{role}")
        for i, role in enumerate(roles)
    ]


def finish(ledger, job, *roles):
    return ledger.finish_analysis(job, results(*roles), findings={"hematoma": None}, seconds={"read": 0.1}, at=NOW)


def test_the_migrations_lead_to_the_tables_of_the_schema(engine):
    assert set(inspect(engine).get_table_names()) - {"alembic_version"} == set(metadata.tables)
    open_engine(engine.url.render_as_string(hide_password=False)).dispose()  # opening it again changes nothing
    with engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_commits_are_synchronous_and_foreign_keys_hold(sqlite_engine):
    with sqlite_engine.connect() as db:
        pragmas = {p: db.execute(text(f"PRAGMA {p}")).scalar() for p in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_commits_on_postgresql_are_synchronous_and_a_frozen_node_loses_its_locks(postgres, migrated):
    engine = new_engine(postgres.url(migrated))
    names = ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout")
    with engine.connect() as db:
        assert [db.execute(text(f"SHOW {name}")).scalar() for name in names] == ["on", "10s", "5s"]
    engine.dispose()


def test_the_same_bytes_again_change_nothing_and_other_bytes_are_a_conflict(engine, receive, decide):
    assert receive() is Kept.NEW
    decide()
    assert receive() is Kept.DUPLICATE
    assert receive(sha256="b") is Kept.CONFLICT
    assert Intake(engine).waiting_studies() == []


def test_only_one_claim_gets_a_job(ledger, receive, decide):
    receive()
    decide()
    job = ledger.claim(at=NOW)
    assert (job.state, job.attempts) == (JobState.ANALYSING, 1)
    assert ledger.claim(at=NOW) is None


@pytest.fixture
def open_jobs(engine, receive):
    """Open a ready job of each given priority, in this order; their study comes in anew each time."""
    numbers = count(1)

    def open_jobs(*priorities, at=NOW):
        receive(number := next(numbers))
        waiting = Intake(engine).waiting_studies()[0]
        plans = [
            planned_job(f"1.{number}.{place}", run=(), send_to=(), priority=priority, input_sha256=priority)
            for place, priority in enumerate(priorities)
        ]
        end = waiting.last_instance_id
        Ledger(engine).record_decisions("1", plans, last_instance_id=end, last_received_at=at, evidence="quiet", at=at)

    return open_jobs


def take_all(ledger, *, at):
    """Claim and end one job after another; their priorities."""
    taken = []
    while job := ledger.claim(at=at):
        taken.append(job.priority)
        ledger.refuse(job, reason="few_slices", detail="", at=at)
    return taken


def test_stat_overtakes_routine(ledger, open_jobs):
    open_jobs("routine", "routine", "stat", "stat")
    assert take_all(ledger, at=NOW) == ["stat", "stat", "routine", "routine"]


def test_a_routine_job_that_has_waited_too_long_takes_turns_with_stat(engine, open_jobs):
    ledger = Ledger(engine, routine_waits_at_most_s=60)
    open_jobs("routine", "routine", "stat")
    assert ledger.claim(at=NOW + 59).priority == "stat"
    open_jobs(*["stat"] * 4, at=NOW + 59)
    assert take_all(ledger, at=NOW + 60) == ["routine", "stat", "routine", "stat", "stat", "stat"]


def test_routine_never_starves_while_stat_keeps_coming(engine, open_jobs):
    ledger = Ledger(engine, routine_waits_at_most_s=60)
    open_jobs(*["routine"] * 3)
    taken = []
    for turn in range(20):  # one STAT comes in with every turn, and a turn takes 10 s
        open_jobs("stat", at=NOW + 10 * turn)
        taken.append(ledger.claim(at=NOW + 10 * turn).priority)
    assert taken == ["stat"] * 6 + ["routine", "stat"] * 3 + ["stat"] * 8


def test_with_routine_alone_the_oldest_goes_first_however_long_it_waits(engine, open_jobs):
    ledger = Ledger(engine, routine_waits_at_most_s=60)
    open_jobs("routine", at=NOW)
    open_jobs("routine", at=NOW + 500)
    assert [ledger.claim(at=NOW + 1000).id for _ in range(2)] == [1, 2]


def test_an_instance_that_comes_in_while_deciding_makes_the_snapshot_fail(engine, ledger, receive):
    receive(1)
    seen = Intake(engine).waiting_studies()[0]
    receive(2)
    taken = ledger.record_decisions(
        "1", [], last_instance_id=seen.last_instance_id, last_received_at=NOW, evidence="quiet", at=NOW
    )
    assert taken is None
    assert Intake(engine).waiting_studies()[0].last_instance_id > seen.last_instance_id


def test_an_instance_after_the_snapshot_makes_the_study_wait_again_from_then(engine, receive, decide):
    receive(1, at=NOW)
    decide()
    receive(2, at=NOW + 50)
    assert Intake(engine).waiting_studies()[0].arrival.first_received_at == NOW + 50


def test_the_same_input_decided_again_opens_no_second_job(history, ledger, receive, decide):
    receive(1)
    assert len(decide()) == 1
    receive(2)
    assert decide() == ()
    assert len(history.list_jobs()) == 1


def test_other_input_supersedes_an_unfinished_job_and_cancels_its_deliveries(history, ledger, outbox, receive, decide):
    receive(1)
    decide()
    old = ledger.claim(at=NOW)
    finish(ledger, old, "segmentation")
    receive(2)
    decide(input_sha256="y")
    new = history.list_jobs()[0]
    assert history.job(old.id).state is JobState.SUPERSEDED
    assert {d.state for d in outbox.of_job(old.id)} == {"cancelled"}
    assert new.supersedes == old.id


def test_the_result_of_a_superseded_analysis_is_not_used(history, ledger, receive, decide):
    receive(1)
    decide()
    old = ledger.claim(at=NOW)
    receive(2)
    decide(input_sha256="y")
    with pytest.raises(StaleClaim):
        finish(ledger, old, "segmentation")
    assert history.results(old.id) == []


def test_results_fill_the_outbox_for_each_destination_and_the_job_is_done_when_all_took_them(
    history, ledger, outbox, receive, decide
):
    receive()
    decide()
    job = ledger.claim(at=NOW)
    assert finish(ledger, job, "segmentation", "summary_page") is JobState.DELIVERING
    for destination in ("pacs", "archive"):
        due = outbox.due(destination, at=NOW)
        assert [d.role for d in due] == ["segmentation", "summary_page"]
        states = [outbox.delivered(d, status=0, at=NOW) for d in due]
    assert states == [None, JobState.DONE]
    assert [e.to_state for e in history.events(job.id)] == ["ready", "analysing", "delivering", "done"]


def findings_of(*parts):
    model = ModelIdentity(name="m", version="1", weights_sha256="0", family="classical", trained_on="nothing")
    hematoma = Hematoma(
        volume_ml=31.0,
        volume_low_ml=25.0,
        volume_high_ml=37.5,
        abc2_ml=30.0,
        probability=0.9,
        side=Side.LEFT,
        component_count=1,
        largest_slice_uid="1.2",
        largest_area_mm2=900.0,
        long_axis_mm=40.0,
        short_axis_mm=30.0,
        parts=parts,
    )
    return Findings(model=model, hematoma=hematoma, caveats=(Caveat.EIGHT_BIT,))


def test_findings_come_back_from_the_row_of_their_job_as_they_went_in(engine, history, ledger, outbox, receive, decide):
    part = HematomaPart(type=HemorrhageType.SDH, volume_ml=31.0, volume_low_ml=25.0, volume_high_ml=37.5)
    receive()
    decide()
    job = ledger.claim(at=NOW)
    ledger.finish_analysis(job, results("seg"), findings=asdict(findings_of(part)), seconds={}, at=NOW)

    stored = one_job(history, outbox, Intake(engine), job.id)["findings"]
    (stored_part,) = stored["hematoma"]["parts"]
    assert HematomaPart(**stored_part) == part
    assert Caveat(*stored["caveats"]) is Caveat.EIGHT_BIT


def test_a_row_from_before_there_were_types_and_caveats_is_still_shown(
    engine, history, ledger, outbox, receive, decide
):
    old = asdict(findings_of())
    del old["hematoma"]["parts"], old["caveats"]
    receive()
    decide()
    job = ledger.claim(at=NOW)
    ledger.finish_analysis(job, results("seg"), findings=old, seconds={}, at=NOW)

    shown = one_job(history, outbox, Intake(engine), job.id)
    assert (shown["hematoma_ml"], shown["findings"]["hematoma"]["side"]) == (31.0, "left")


def test_a_postponed_delivery_is_not_due_before_its_time(ledger, outbox, receive, decide):
    receive()
    decide(send_to=("pacs",))
    finish(ledger, ledger.claim(at=NOW), "segmentation")
    (delivery,) = outbox.due("pacs", at=NOW)
    outbox.postponed(delivery, status=0xA700, error="full", until=NOW + 5)
    assert outbox.due("pacs", at=NOW + 4) == []
    assert outbox.due("pacs", at=NOW + 5)[0].attempts == 1


def test_a_refused_delivery_fails_the_job_and_retry_revives_it_alone(history, ledger, outbox, receive, decide):
    receive()
    decide(send_to=("pacs",))
    job = ledger.claim(at=NOW)
    finish(ledger, job, "segmentation", "summary_page")
    first, second = outbox.due("pacs", at=NOW)
    outbox.refused(first, status=0xA900, error="no", at=NOW)
    assert outbox.delivered(second, status=0, at=NOW) is JobState.FAILED
    assert history.job(job.id).reason == "delivery"
    assert ledger.retry(job.id, at=NOW, who="somebody") is JobState.DELIVERING
    assert [d.id for d in outbox.due("pacs", at=NOW)] == [first.id]


def test_a_failing_job_is_tried_three_times_and_then_parked(history, ledger, receive, decide):
    receive()
    decide()
    states = [ledger.fail_attempt(ledger.claim(at=NOW), reason="crash", detail="SIGSEGV", at=NOW) for _ in range(3)]
    assert states == [JobState.READY, JobState.READY, JobState.FAILED]
    assert ledger.claim(at=NOW) is None
    job = history.list_jobs()[0]
    assert (job.reason, job.detail) == ("crash", "attempt 3: SIGSEGV")
    assert ledger.retry(job.id, at=NOW, who="somebody") is JobState.READY


def test_a_killed_node_takes_its_claims_back_and_does_not_hold_the_attempt_against_the_job(
    history, ledger, receive, decide
):
    receive()
    decide()
    for _ in range(MAX_INTERRUPTIONS - 1):
        assert ledger.claim(at=NOW).attempts == 1
        assert ledger.recover(at=NOW) == 1
    assert history.list_jobs()[0].state is JobState.READY


def test_a_job_during_which_the_node_dies_again_and_again_is_parked(history, ledger, receive, decide):
    receive()
    decide()
    for _ in range(MAX_INTERRUPTIONS):
        ledger.claim(at=NOW)
        ledger.recover(at=NOW)
    job = history.list_jobs()[0]
    assert (job.state, job.reason) == (JobState.FAILED, "node_died")


def test_a_job_that_meets_a_bad_disk_again_and_again_is_parked_without_an_attempt(history, ledger, receive, decide):
    receive()
    decide()
    states = []
    for _ in range(MAX_INTERRUPTIONS):
        states.append(ledger.interrupt(ledger.claim(at=NOW), reason="disk", detail="bad sector", at=NOW))
    assert states == [JobState.READY] * (MAX_INTERRUPTIONS - 1) + [JobState.FAILED]
    job = history.job(1)
    assert (job.state, job.reason, job.attempts) == (JobState.FAILED, "disk", 0)
    assert "bad sector" in job.detail


def test_a_job_given_back_at_stop_has_not_used_an_attempt(history, ledger, receive, decide):
    receive()
    decide()
    ledger.give_back(ledger.claim(at=NOW), detail="parked", at=NOW)
    assert (history.list_jobs()[0].state, history.list_jobs()[0].attempts) == (JobState.READY, 0)


def test_a_dropped_job_is_over_and_its_results_stay_here(ledger, outbox, receive, decide):
    receive()
    decide()
    job = ledger.claim(at=NOW)
    finish(ledger, job, "segmentation")
    assert ledger.drop(job.id, at=NOW, who="somebody")
    assert not ledger.drop(job.id, at=NOW, who="somebody")
    assert outbox.due("pacs", at=NOW) == []


def test_a_dropped_job_with_results_is_delivered_after_a_retry_and_not_analysed_again(ledger, outbox, receive, decide):
    receive()
    decide(send_to=("pacs",))
    job = ledger.claim(at=NOW)
    finish(ledger, job, "segmentation")
    ledger.drop(job.id, at=NOW, who="somebody")
    assert ledger.retry(job.id, at=NOW, who="somebody") is JobState.DELIVERING
    assert outbox.delivered(outbox.due("pacs", at=NOW)[0], status=0, at=NOW) is JobState.DONE


def test_a_dropped_job_is_not_revived_beside_the_later_job_of_its_series(ledger, receive, decide):
    receive(1)
    decide(input_sha256="x")
    job = ledger.claim(at=NOW)
    ledger.drop(job.id, at=NOW, who="somebody")
    receive(2)
    decide(input_sha256="y")
    assert ledger.retry(job.id, at=NOW, who="somebody") is None


def test_a_job_that_is_raised_to_stat_goes_first_and_is_raised_once(ledger, receive, decide, engine):
    receive()
    decide(series_instance_uid="1.1")
    receive(2)
    decide(series_instance_uid="1.2")
    assert ledger.raise_to_stat(2, at=NOW, who="x")
    assert not ledger.raise_to_stat(2, at=NOW, who="x")
    assert ledger.claim(at=NOW).id == 2
    ledger.drop(1, at=NOW, who="somebody")
    assert not ledger.raise_to_stat(1, at=NOW, who="x")
    assert not ledger.raise_to_stat(9, at=NOW, who="x")
    assert [row.who for row in AuditTrail(engine).rows() if row.event == AuditEvent.JOB_RAISED] == ["x"]


def test_a_job_that_is_run_again_by_hand_takes_the_place_of_the_old_one_in_the_same_snapshot(
    ledger, history, outbox, receive, decide, planned
):
    receive()
    decide()
    old = ledger.claim(at=NOW)
    new_id = ledger.run_again(old.id, planned(input_sha256="other", rule="other"), at=NOW, who="x")
    new = history.job(new_id)
    assert (new.snapshot_id, new.supersedes, new.rule, new.state) == (old.snapshot_id, old.id, "other", JobState.READY)
    assert history.job(old.id).state is JobState.SUPERSEDED
    with pytest.raises(StaleClaim):
        finish(ledger, old, "segmentation")
    again = planned(input_sha256="third", rule="third")
    assert ledger.run_again(old.id, again, at=NOW, who="x") is None  # a later job took its place
    assert ledger.run_again(new_id, planned(input_sha256="other"), at=NOW, who="x") is None  # that is what it does
    assert ledger.run_again(9, again, at=NOW, who="x") is None
    finish(ledger, ledger.claim(at=NOW), "segmentation")
    assert ledger.run_again(new_id, again, at=NOW, who="x") == new_id + 1
    assert outbox.due("pacs", at=NOW) == []


@pytest.mark.parametrize("until", ["ready", "analysing", "delivering", "done"])
def test_a_job_by_hand_stays_when_other_series_grow_and_ends_when_its_own_does(
    ledger, history, outbox, receive, decide, planned, until
):
    receive()
    decide(input_sha256="ignored", state=JobState.IGNORED, decision="ignore", reason="not_axial", send_to=())
    asked = planned(input_sha256="hand", reason=Reason.BY_HAND, rule="other", send_to=("pacs",))
    by_hand = ledger.run_again(1, asked, at=NOW, who="x")
    claimed = ledger.claim(at=NOW) if until != "ready" else None
    if until in ("delivering", "done"):
        finish(ledger, claimed, "segmentation")
    if until == "done":
        outbox.delivered(outbox.due("pacs", at=NOW)[0], status=0, at=NOW)
    before, due = history.job(by_hand), outbox.due("pacs", at=NOW)
    assert before.state == until
    receive(2)  # of another series: the plan of this one is what it was
    assert decide(input_sha256="ignored", state=JobState.IGNORED, decision="ignore", reason="not_axial") == ()
    assert history.job(by_hand) == before
    assert outbox.due("pacs", at=NOW) == due
    third = planned(input_sha256="third", reason=Reason.BY_HAND, rule="third")
    assert (latest := ledger.run_again(by_hand, third, at=NOW, who="x"))
    receive(3)
    assert decide(input_sha256="ignored", state=JobState.IGNORED, decision="ignore", reason="not_axial") == ()
    assert history.job(latest).state is JobState.READY
    receive(4)  # of the series itself
    assert len(decide(input_sha256="grown")) == 1
    assert history.job(latest).state is JobState.SUPERSEDED


def test_the_rule_that_was_left_can_be_asked_for_again_by_hand(ledger, history, receive, decide, planned):
    receive()
    decide()
    other = ledger.run_again(1, planned(input_sha256="hand", reason=Reason.BY_HAND), at=NOW, who="x")
    back = ledger.run_again(other, planned(reason=Reason.BY_HAND), at=NOW, who="x")
    assert (history.job(other).state, history.job(back).state) == (JobState.SUPERSEDED, JobState.READY)


def test_a_job_that_succeeds_after_a_failed_attempt_shows_no_failure(history, ledger, receive, decide):
    receive()
    decide(reason="no_rule", decision="ignore")
    ledger.fail_attempt(ledger.claim(at=NOW), reason="crash", detail="SIGSEGV", at=NOW)
    failed = history.list_jobs()[0]
    assert (failed.reason, failed.decision_reason) == ("crash", "no_rule")
    finish(ledger, ledger.claim(at=NOW), "segmentation")
    assert history.list_jobs()[0].reason == "no_rule"


def test_reading_neither_waits_for_a_writer_nor_makes_one_wait(engine, history, receive, decide):
    receive()
    decide()
    with engine.begin():
        assert len(history.list_jobs()) == 1
    with reading(engine) as reader:
        assert reader.execute(text("SELECT count(*) FROM jobs")).scalar() == 1
        with engine.begin() as writer:
            writer.execute(text("UPDATE jobs SET detail = 'x'"))


def test_a_busy_ledger_is_told_within_the_time_limit_and_nothing_is_written_later(engine, monkeypatch):
    monkeypatch.setattr("ichnode.storage.intake.LOCK_TIMEOUT_S", 0.05)
    intake = Intake(engine)
    association = intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=NOW)
    instance = Instance(
        sop_instance_uid="1.1.7",
        sop_class_uid="1.2",
        series_instance_uid="1.1",
        study_instance_uid="1",
        transfer_syntax_uid="1.3",
        file="/7",
        header={},
        association_id=association,
        received_at=NOW,
    )
    with intake._committing, pytest.raises(SQLAlchemyError):
        intake.keep(instance, sha256="a", size_bytes=1)
    assert intake.keep(replace(instance, sop_instance_uid="1.1.8"), sha256="b", size_bytes=1) is Kept.NEW
    assert [i.sop_instance_uid for i in intake.snapshot("1", last_instance_id=99).instances] == ["1.1.8"]


def test_the_same_other_bytes_again_are_known(receive):
    receive()
    assert [receive(sha256="b"), receive(sha256="b")] == [Kept.CONFLICT, Kept.KNOWN_CONFLICT]


def test_deliveries_to_a_destination_that_is_gone_become_dead_letters(ledger, outbox, receive, decide):
    receive()
    decide()
    job = ledger.claim(at=NOW)
    finish(ledger, job, "segmentation")
    outbox.give_up_on_unknown(["archive"], at=NOW)
    assert {d.destination: d.state for d in outbox.of_job(job.id)} == {"pacs": "dead", "archive": "pending"}


def test_the_predecessor_is_the_newest_delivered_report_of_the_study(history, ledger, outbox, receive, decide):
    receive(1)
    decide(send_to=("pacs",))
    first = ledger.claim(at=NOW)
    assert history.predecessor(first, "measurement_report") is None
    finish(ledger, first, "measurement_report")
    outbox.delivered(outbox.due("pacs", at=NOW)[0], status=0, at=NOW)
    receive(2)
    decide(input_sha256="y")
    second = ledger.claim(at=NOW)
    assert history.predecessor(second, "measurement_report").sop_instance_uid == "2.0"


def test_a_report_that_waits_for_commitment_is_a_predecessor_too(history, ledger, outbox, receive, decide):
    receive(1)
    decide(send_to=("pacs",))
    finish(ledger, ledger.claim(at=NOW), "measurement_report")
    outbox.sent(outbox.due("pacs", at=NOW)[0], status=0, at=NOW)
    receive(2)
    decide(input_sha256="y")
    second = ledger.claim(at=NOW)
    assert history.predecessor(second, "measurement_report").sop_instance_uid == "2.0"
    assert outbox.of_job(second.supersedes)[0].state == "sent"


def test_a_dropped_job_of_which_everything_is_sent_waits_for_commitment_again_after_a_retry(
    ledger, outbox, receive, decide
):
    receive()
    decide(send_to=("pacs",))
    job = ledger.claim(at=NOW)
    finish(ledger, job, "segmentation")
    outbox.sent(outbox.due("pacs", at=NOW)[0], status=0, at=NOW)
    ledger.drop(job.id, at=NOW, who="somebody")
    assert ledger.retry(job.id, at=NOW, who="somebody") is JobState.DELIVERING
    assert outbox.of_job(job.id)[0].state == "sent"


def test_a_ledger_of_the_first_form_keeps_its_deliveries(tmp_path):
    url = f"sqlite:///{tmp_path}/old.db"
    newest = open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(files("ichnode.storage").joinpath("migrations")))
    config.attributes["engine"] = newest
    command.downgrade(config, "0001")
    job = {"id": 1, "snapshot_id": 1, "study_instance_uid": "'1'", "series_instance_uid": "'1.1'"}
    job |= dict.fromkeys(("decision", "reason", "detail", "priority", "input_sha256"), "''")
    job |= dict.fromkeys(("run", "send_to"), "'[]'") | {"state": "'delivering'"}
    job |= dict.fromkeys(
        ("priority_rank", "report_ignored", "attempts", "interruptions", "created_at", "updated_at"), 0
    )
    with newest.begin() as db:
        db.execute(text("INSERT INTO snapshots VALUES (1, '1', 1, 'quiet', 0, 0)"))
        db.execute(text(f"INSERT INTO jobs ({', '.join(job)}) VALUES ({', '.join(map(str, job.values()))})"))
        db.execute(text("INSERT INTO results VALUES (1, 1, 'segmentation', '2.0', '3', '4', '/f')"))
        db.execute(text("INSERT INTO deliveries VALUES (1, 1, 1, 'pacs', 'pending', 2, 5, 42752, 'full', NULL)"))
    newest.dispose()
    (delivery,) = Outbox(open_engine(url)).due("pacs", at=NOW)
    assert (delivery.attempts, delivery.status, delivery.transaction_uid) == (2, 0xA700, None)


def test_no_state_is_left_out_of_the_table():
    assert set(TRANSITIONS) == set(JobState)
    reachable = {JobState.READY, JobState.IGNORED} | {to for targets in TRANSITIONS.values() for to in targets}
    assert reachable == set(JobState)


def test_every_state_is_counted_also_without_a_job(history, ledger, receive, decide):
    receive()
    decide(state=JobState.IGNORED, decision="ignore", reason="localizer")
    assert history.count_by_state() == {state: int(state is JobState.IGNORED) for state in JobState}


def test_how_long_the_longest_job_waits_in_a_state_is_known(history, ledger, receive, decide):
    assert history.longest_in_state() == {}
    receive()
    decide()
    assert history.longest_in_state() == {JobState.READY: NOW}
    ledger.claim(at=NOW + 5)
    assert history.longest_in_state() == {JobState.ANALYSING: NOW + 5}


def test_who_sent_last_and_when_is_known(engine, history):
    for title, at in (("CT1", 10.0), ("CT2", 30.0), ("CT1", 20.0)):
        Intake(engine).open_association(calling_ae_title=title, peer="127.0.0.1", at=at)
    assert history.last_heard() == [("CT1", 20.0), ("CT2", 30.0)]
