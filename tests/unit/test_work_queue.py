"""What takes the turns of a stage: the same on the ledger alone, and where Procrastinate places them on PostgreSQL."""

import threading
from contextlib import ExitStack

import psycopg
import pytest

from ichnode.domain.job import JobState
from ichnode.stages.loop import Loop
from ichnode.storage.dialect import reading, without_password
from ichnode.storage.ledger import Ledger
from ichnode.storage.nodes import Nodes
from ichnode.storage.placed import PlacedTurns, prepare
from tests.finished_study import Clinic
from tests.vanishing_host import BRIEFLY, vanishing_host

SOON_S = 30


class Worked:
    """What was claimed, in order; a test can hold a turn, or have it fail."""

    def __init__(self, ledger):
        self.ledger, self.jobs, self.priorities = ledger, [], []
        self.may_go_on, self.failures = threading.Event(), 0
        self.may_go_on.set()
        self.claimed = threading.Semaphore(0)

    def turn(self, job_id=None):
        job = self.ledger.claim(at=1.0, job_id=job_id)
        if job is None:
            return False
        self.jobs.append(job.id)
        self.priorities.append(job.priority)
        self.claimed.release()
        assert self.may_go_on.wait(SOON_S)
        if self.failures:
            self.failures -= 1
            self.ledger.fail_attempt(job, reason="error", detail="", at=1.0)
            raise LookupError("unforeseen")
        self.ledger.refuse(job, reason="too_few_slices", detail="", at=1.0)
        return True

    def wait_for(self, count):
        for _ in range(count):
            assert self.claimed.acquire(timeout=SOON_S)


@pytest.fixture
def clinic(engine, tmp_path):
    return Clinic(engine, tmp_path)


@pytest.fixture
def work(engine, clinic):
    """Starts what takes turns on one node; each with the work that it did."""
    running = ExitStack()
    shared = engine.dialect.name == "postgresql"
    if shared:
        prepare(engine)
        prepare(engine)  # by the next node: changes nothing

    def work(node="a", *, takes=True, may_judge=lambda: True, url=None):
        if shared:
            Nodes(engine, name=node, roles=["analyse"]).beat()
        ledger = Ledger(engine, node=node if shared else None)
        worked = Worked(ledger)
        if shared:
            url = url or engine.url.render_as_string(hide_password=False)
            turn = worked.turn if takes else None
            turns = PlacedTurns("analyse", url=url, node=node, ready=ledger.ready, turn=turn, may_judge=may_judge)
        else:
            turns = Loop("analyse", worked.turn, idle_s=60)
        turns.start()
        running.callback(turns.join, SOON_S)
        running.callback(turns.ask_to_stop)
        running.callback(worked.may_go_on.set)
        return turns, worked

    with running:
        yield work


def ready(clinic, *studies, **plan):
    for study in studies:
        clinic.receive(study)
        clinic.decide(study, **plan)


def test_what_is_ready_is_taken_and_a_wake_tells_of_more(clinic, work):
    ready(clinic, "1", "2")
    turns, worked = work()
    worked.wait_for(2)
    ready(clinic, "3")
    turns.wake()
    worked.wait_for(1)
    assert sorted(worked.jobs) == [1, 2, 3]


def test_stat_comes_first(clinic, work):
    ready(clinic, "1", "2")
    ready(clinic, "3", priority="stat")
    _, worked = work()
    worked.wait_for(3)
    assert worked.priorities == ["stat", "routine", "routine"]


def test_a_job_that_is_made_stat_after_it_was_offered_goes_next(clinic, work, engine):
    turns, worked = work()
    worked.may_go_on.clear()
    ready(clinic, "1", "2", "3")
    turns.wake()
    worked.wait_for(1)
    if engine.dialect.name == "postgresql":
        wait_for_entries(engine, "args->>'job_id' = '3'")
    assert Ledger(engine).raise_to_stat(3, at=1.0, who="x")
    turns.wake()
    if engine.dialect.name == "postgresql":
        wait_for_entries(engine, "args->>'job_id' = '3' AND priority = 0")
    worked.may_go_on.set()
    worked.wait_for(2)
    assert worked.jobs == [1, 3, 2]


def wait_for_entries(engine, which):
    """Until the queue has one of which that holds."""
    pause = threading.Event()
    for _ in range(SOON_S * 20):
        with reading(engine) as db:
            if db.exec_driver_sql(f"SELECT 1 FROM procrastinate_jobs WHERE {which}").first():
                return
        pause.wait(0.05)
    raise AssertionError(f"no entry: {which}")


def test_a_turn_that_fails_is_no_end_and_the_job_comes_again(clinic, work):
    ready(clinic, "1")
    turns, worked = work()
    worked.failures = 1
    turns.wake()
    worked.wait_for(2)
    assert turns.alive
    assert worked.jobs == [1, 1]


def test_a_stop_lets_the_turn_end_and_takes_no_further(clinic, work):
    turns, worked = work()
    worked.may_go_on.clear()
    ready(clinic, "1", "2")
    turns.wake()
    worked.wait_for(1)
    turns.ask_to_stop()
    assert not turns.join(0.2)
    worked.may_go_on.set()
    assert turns.join(SOON_S)
    assert len(worked.jobs) == 1
    assert clinic.history.count_by_state()[JobState.READY] == 1


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_two_nodes_share_what_is_ready_and_no_job_is_done_twice(clinic, work):
    ready(clinic, *map(str, range(1, 9)))
    (_, one), (_, other) = work("a"), work("b")
    one_or_other = threading.Event()
    while len(one.jobs) + len(other.jobs) < 8:
        one_or_other.wait(0.01)
    assert sorted(one.jobs + other.jobs) == list(range(1, 9))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_node_without_the_role_offers_and_another_is_told_at_once(clinic, work):
    _, worked = work("gpu")
    offering, idle = work("receiver", takes=False)
    ready(clinic, "1")
    offering.wake()
    worked.wait_for(1)
    assert idle.jobs == []


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_two_jobs_of_one_study_are_not_worked_on_at_a_time(clinic, engine, work):
    turns, worked = work()
    worked.may_go_on.clear()
    ready(clinic, "1")
    turns.wake()
    worked.wait_for(1)
    ready(clinic, "2")
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE jobs SET study_instance_uid = '1'")
    turns.wake()
    with reading(engine) as db:
        pause = threading.Event()
        while db.exec_driver_sql("SELECT count(*) FROM procrastinate_jobs").scalar() != 2:
            pause.wait(0.01)
        workers = "INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id"
        idle = db.exec_driver_sql(workers).scalar()
        given = "SELECT id FROM procrastinate_fetch_job_v2(ARRAY['analyse'], %(worker)s)"
        assert db.exec_driver_sql(given, {"worker": idle}).scalar() is None
    worked.may_go_on.set()
    worked.wait_for(1)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_the_entry_of_a_worker_that_died_is_taken_away_and_its_job_offered_again(clinic, engine, work):
    ready(clinic, "1")
    with psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as db:
        db.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
        db.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args, status, worker_id)"
            " SELECT 'analyse', 'turn', '1', 'analyse 1', '{\"job_id\": 1}', 'doing', id FROM procrastinate_workers"
        )
    judges = threading.Event()
    turns, worked = work(may_judge=judges.is_set)
    assert not worked.claimed.acquire(timeout=1)  # PostgreSQL may have been away, and the worker lives
    judges.set()
    turns.wake()
    worked.wait_for(1)
    assert worked.jobs == [1]


@pytest.fixture
def host(engine):
    with vanishing_host(engine.url.port) as host:
        yield host


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_turns_go_on_where_another_machine_took_the_place_of_a_postgresql_that_vanished(host, clinic, engine, work):
    url = engine.url.set(port=host.port).update_query_dict(BRIEFLY)
    turns, worked = work(url=url.render_as_string(hide_password=False))
    ready(clinic, "1")
    turns.wake()
    worked.wait_for(1)
    host.vanish()
    host.be_replaced()
    ready(clinic, "2")
    turns.wake()
    worked.wait_for(1)
    assert worked.jobs == [1, 2]


def test_no_message_shows_the_password_of_the_database():
    assert without_password("postgresql+psycopg://u:secret@h/d") == "postgresql+psycopg://u:***@h/d"
    assert without_password("sqlite:///x.db") == "sqlite:///x.db"
