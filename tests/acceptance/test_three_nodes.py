"""Three `ichnode serve` on one real PostgreSQL: a receiver, and two that analyse and deliver.

Each study is analysed and delivered exactly once, whether a node is killed, frozen and woken, or upgraded, or
PostgreSQL is restarted under all of them.
"""

import signal
import threading
import time
from functools import partial

import pytest

from tests.acceptance.three_nodes import freeze_while_analysing, taken_over, three_nodes

pytestmark = pytest.mark.acceptance
TAKEN_OVER_WITHIN_S = 30
_pause = threading.Event()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with three_nodes(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(running):
    """All three nodes, up and ready."""
    for node in running.nodes.values():
        if not node.runs:
            node.start()
        running.wait(node.is_ready)
    return running


def test_three_nodes_share_the_work_and_each_result_comes_once(site):
    site.send(site.receiver, 4)
    site.expect_each_delivered_once()
    assert {by for (by,) in site.ask("SELECT claimed_by FROM jobs")} == {"one", "other"}
    assert all(node.is_ready() for node in site.nodes.values())


def test_the_analysis_of_a_killed_node_is_taken_over_within_30_s(site):
    node, name, job = freeze_while_analysing(site)
    node.kill()
    _, seconds = site.wait(partial(taken_over, site, name, job), TAKEN_OVER_WITHIN_S)
    print(f"taken over after {seconds:.1f} s")
    site.expect_each_delivered_once()


def test_a_node_that_was_frozen_for_a_minute_delivers_nothing_twice_when_it_wakes(site):
    node, name, job = freeze_while_analysing(site)
    began = time.monotonic()
    _, seconds = site.wait(partial(taken_over, site, name, job), TAKEN_OVER_WITHIN_S)
    print(f"taken over after {seconds:.1f} s")
    site.expect_each_delivered_once()
    _pause.wait(max(0.0, began + 60 - time.monotonic()))
    node.signal(signal.SIGCONT)
    site.wait(lambda: "claim_gone" in node.log.read_text(), 30)
    site.send(site.receiver, 2)
    site.expect_each_delivered_once()


def test_nodes_go_on_by_themselves_after_postgresql_was_restarted(site):
    site.send(site.receiver, 2)
    site.wait(site.claims)
    site.server.stop()
    site.server.start()
    site.engine.dispose()
    site.expect_each_delivered_once()
    site.wait(site.receiver.is_ready)
    site.send(site.receiver, 2)
    site.expect_each_delivered_once()
    assert all(node.runs for node in site.nodes.values())


def test_a_rolling_upgrade_with_jobs_in_flight_loses_and_doubles_nothing(site):
    for name in ("one", "other"):
        node, *_ = freeze_while_analysing(site, [name], studies=2)  # so that it has the claim when it is told to stop
        node.signal(signal.SIGTERM)
        node.signal(signal.SIGCONT)
        assert node.wait_for_its_death(timeout_s=30) == 0
        node.start()
    site.send(site.receiver, 2)
    site.wait(site.claims)
    assert site.receiver.stop() == 0
    site.receiver.start()
    site.send(site.receiver)
    site.expect_each_delivered_once()
