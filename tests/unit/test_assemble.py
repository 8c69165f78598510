"""A study is complete after it has been quiet, whatever anybody does to the clock on the wall."""

import gc

import pytest

from ichnode.domain.rules import Rule
from ichnode.domain.study import Instance
from ichnode.metrics import Metrics
from ichnode.stages.assemble import AssembleStage
from tests.finished_study import Clinic

DAY = 86400.0
RULE = Rule(name="r", match=(), run=(), send_to=(), priority="routine", report_ignored=False, prefer_thickness_mm=5)


class Clocks:
    """A wall clock that tests set, and one that only goes on."""

    def __init__(self):
        self.wall, self.passed = 1_000_000.0, 50.0

    def pass_time(self, seconds):
        self.wall, self.passed = self.wall + seconds, self.passed + seconds


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def clinic(engine, tmp_path, clocks):
    class Timed(Clinic):
        now = property(lambda self: clocks.wall, lambda self, _: None)

    return Timed(engine, tmp_path)


@pytest.fixture
def start_assembling(clinic, clocks):
    def start(*, quiet_s=10.0, max_wait_s=600.0):
        return AssembleStage(
            intake=clinic.intake,
            ledger=clinic.ledger,
            metrics=Metrics(sources=[], count_jobs=dict),
            rules=[RULE],
            results_sha256="",
            quiet_s=quiet_s,
            max_wait_s=max_wait_s,
            clock=lambda: clocks.wall,
            monotonic=lambda: clocks.passed,
            wake=lambda: None,
        )

    return start


@pytest.mark.parametrize("step", [0.0, 400 * DAY, -2 * DAY], ids=["none", "400 days ahead", "2 days back"])
@pytest.mark.parametrize("when", ["before the first look", "while it is quiet"])
def test_a_clock_that_is_set_completes_no_study_sooner_or_later(clinic, clocks, start_assembling, step, when):
    assembling = start_assembling()
    assembling.turn()
    clinic.receive()
    if when == "before the first look":
        clocks.wall += step
    assert not assembling.turn()
    if when == "while it is quiet":
        clocks.wall += step
    clocks.pass_time(9.9)
    assert not assembling.turn()
    clocks.pass_time(0.1)
    assert assembling.turn()


def test_each_new_instance_makes_the_quiet_begin_anew_but_not_the_longest_wait(clinic, clocks, start_assembling):
    assembling = start_assembling(max_wait_s=25.0)
    for number in range(3):
        clinic.receive("1", number)
        assert not assembling.turn()
        clocks.pass_time(8.0)
    assert not assembling.turn()
    clocks.pass_time(1.0)
    assert assembling.turn()
    assert clinic.history.list_jobs()[0].evidence == "max_wait"


def test_what_comes_in_after_the_snapshot_waits_anew(clinic, clocks, start_assembling):
    assembling = start_assembling(max_wait_s=15.0)
    clinic.receive("1", 1)
    assembling.turn()
    clocks.pass_time(10.0)
    assert assembling.turn()
    clinic.receive("1", 2)
    clocks.pass_time(6.0)
    assert not assembling.turn()
    clocks.pass_time(10.0)
    assert assembling.turn()


def test_after_a_start_the_quiet_begins_anew(clinic, clocks, start_assembling):
    clinic.receive()
    clocks.pass_time(1000.0)  # the node was down
    assembling = start_assembling()
    assert not assembling.turn()
    clocks.pass_time(10.0)
    assert assembling.turn()


def test_what_waits_keeps_no_instance_in_memory(clinic, start_assembling):
    assembling = start_assembling()
    clinic.receive("1.7.1"), clinic.receive("1.7.2")
    assembling.turn()
    gc.collect()
    held = [thing for thing in gc.get_objects() if type(thing) is Instance]
    assert [instance for instance in held if instance.study_instance_uid.startswith("1.7.")] == []


def test_a_study_that_fails_rests_longer_and_longer_and_stops_no_other(clinic, clocks, start_assembling, monkeypatch):
    tried = []

    def fail(study_instance_uid, *_, **options):
        tried.append(study_instance_uid)
        if study_instance_uid == "1":
            raise OSError(28, "No space left on device")
        return record(study_instance_uid, *_, **options)

    record = clinic.ledger.record_decisions
    monkeypatch.setattr(clinic.ledger, "record_decisions", fail)
    assembling = start_assembling()
    clinic.receive("1"), clinic.receive("2")
    assembling.turn()
    clocks.pass_time(10.0)
    for _ in range(80):
        assembling.turn()
        clocks.pass_time(0.25)
    assert (tried.count("1"), tried.count("2")) == (7, 1)  # after 0, 1, 3, 7, 11, 15 and 19 s
    monkeypatch.undo()
    clocks.pass_time(4.0)
    assert assembling.turn()
