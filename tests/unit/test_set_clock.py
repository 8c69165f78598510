"""Deliveries and metrics under a wall clock that is set."""

import pytest

from ichnode.domain.job import JobState
from ichnode.stages.set_clock import SetClock
from tests.finished_study import Clinic

DAY = 86400.0


@pytest.mark.parametrize("step", [400 * DAY, -2 * DAY])
def test_differences_across_a_step_are_no_durations(step):
    wall, passed = 100.0, 5.0
    clock = SetClock(lambda: wall, lambda: passed)
    assert clock.trusted_since() < 0
    wall, passed = wall + 50, passed + 50
    assert clock.trusted_since() < 0
    wall += step
    assert clock.trusted_since() == wall
    wall, passed = wall + 50, passed + 50
    assert clock.trusted_since() == wall - 50


def test_a_clock_that_is_slewed_is_not_set():
    wall, passed = 100.0, 5.0
    clock = SetClock(lambda: wall, lambda: passed)
    for _ in range(1000):
        wall, passed = wall + 1.0005, passed + 1
        assert clock.trusted_since() < 0


def test_a_delivery_postponed_before_the_clock_was_set_back_is_due_all_the_same(engine, tmp_path):
    clinic = Clinic(engine, tmp_path)
    clinic.receive()
    clinic.decide()
    clinic.analyse()
    (delivery,) = clinic.outbox.due("pacs", at=clinic.now, longest_wait_s=600)
    clinic.outbox.postponed(delivery, status=0xA700, error="full", until=clinic.now + 600)
    assert clinic.outbox.due("pacs", at=clinic.now, longest_wait_s=600) == []
    assert [d.id for d in clinic.outbox.due("pacs", at=clinic.now - 2 * DAY, longest_wait_s=600)] == [delivery.id]
    assert clinic.outbox.due("pacs", at=clinic.now + 400 * DAY, longest_wait_s=600) != []
    assert clinic.history.list_jobs()[0].state is JobState.DELIVERING
