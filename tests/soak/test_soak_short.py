"""Each soak run in a short form; `make soak` is the long one. Times and rates are not judged here, counts are."""

import pytest

from tests.soak import day, fuzz, kills, senders, slow, trouble
from tests.soak.figures import Figure, missed, show

pytestmark = pytest.mark.acceptance


def assert_all_met(title: str, figures: list[Figure]) -> None:
    show(title, figures)
    assert missed(figures) == []


def test_three_kills_under_load_lose_and_double_nothing(tmp_path):
    assert_all_met(kills.TITLE, kills.measure(tmp_path, kills=3, objects=300, feeders=2))


def test_eight_senders_at_once_are_all_served(tmp_path):
    assert_all_met(senders.TITLE, senders.measure(tmp_path, senders=8, each=20))


def test_a_crowd_of_slow_connections_is_let_go_and_holds_up_nobody(tmp_path):
    assert_all_met(slow.TITLE, slow.measure(tmp_path, connections=40, minutes=0.3))


def test_a_full_disk_a_locked_ledger_and_a_set_clock_are_got_over(tmp_path):
    assert_all_met(trouble.TITLE, trouble.measure(tmp_path, times=2))


def test_a_little_while_in_bad_company(tmp_path):
    assert_all_met(day.TITLE, day.measure(tmp_path, hours=15 / 3600))


def test_a_fuzzed_reader_is_counted(tmp_path):
    pytest.importorskip("atheris")
    assert_all_met(fuzz.TITLE, fuzz.measure(tmp_path, inputs=2_000, readers=["command"]))


def test_a_goal_that_is_missed_is_named():
    figures = [Figure(what="lost", measured=1, least=0, most=0), Figure(what="echoes, %", measured=96, least=95)]
    assert missed(figures) == ["lost: 1, goal 0"]
