"""Three `ichnode serve` on one real PostgreSQL: a receiver, and two that analyse and deliver.

Each study is analysed and delivered exactly once, whether a node is killed, frozen and woken, or upgraded, or
PostgreSQL is restarted under all of them.
"""

import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text

from ichnode.domain.job import JobState
from ichnode.phantom import REGULAR
from ichnode.storage.dialect import new_engine, reading
from tests.acceptance.scanner import Scanner, scan
from tests.acceptance.serve import Serve
from tests.pacs import Pacs
from tests.postgres import cluster

pytestmark = pytest.mark.acceptance
SMALL = replace(REGULAR, rows=64, columns=64)
TAKEN_OVER_WITHIN_S = 30
OBJECTS_A_STUDY = 4  # a segmentation, two reports, a page
_pause = threading.Event()


@pytest.fixture(scope="module")
def server():
    with cluster(durable=True) as server:
        yield server


class Site:
    """The nodes, their PACS and their database; what is asked of the database is asked directly."""

    def __init__(self, folder, server, pacs, stack):
        self.server, self.pacs, self._folder = server, pacs, folder
        self.database = server.database()
        self.engine = new_engine(server.url(self.database))
        self._stack, self.sent = stack, 0
        self.nodes = {}

    def node(self, name, *roles):
        """A node that is up."""
        folder = self._folder / name
        folder.mkdir()
        sections = {
            "database": {"url": self.server.url(self.database)},
            "completeness": {"quiet_s": 8},  # geometry completes a study sooner; a busy machine may pause in the middle
            "delivery": {"first_retry_s": 0.5, "max_retry_s": 2},
            "rules": [{"name": "head-ct", "run": ["hematoma"]}],
            "inference": {"hematoma_bundle": "hematoma-baseline"},
        }
        serve = self._stack.enter_context(Serve(folder, **sections))
        serve.sections["node"] |= {"data_dir": str(self._folder / "shared"), "name": name, "roles": list(roles)}
        serve.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=self.pacs.port)
        serve.start()
        self.nodes[name] = serve
        return serve

    def send(self, receiver, count=1):
        """So many studies, sent as a scanner does: again, until everything is acknowledged."""
        for _ in range(count):
            study = scan(self._folder, seed=500 + self.sent, geometry=SMALL)
            self.sent += 1
            Scanner(receiver.dicom_port).send_until_acknowledged(study)

    def ask(self, query):
        with reading(self.engine) as db:
            return [tuple(row) for row in db.execute(text(query))]

    def states(self):
        return Counter(state for (state,) in self.ask("SELECT state FROM jobs"))

    def wait(self, condition, timeout_s=90):
        """Until it holds; the seconds that it took."""
        began = time.monotonic()
        while not (found := condition()):
            if time.monotonic() > began + timeout_s:
                logs = "\n".join(f"--- {name}\n{node.log.read_text()[-2500:]}" for name, node in self.nodes.items())
                pytest.fail(f"{condition} does not hold: {self.states()}\n{logs}", pytrace=False)
            _pause.wait(0.05)
        return found, time.monotonic() - began

    def claims(self):
        """Who analyses what now."""
        return dict(self.ask(f"SELECT claimed_by, id FROM jobs WHERE state = '{JobState.ANALYSING}'"))

    def all_done(self, count):
        return self.states() == {JobState.DONE: count}

    def expect_each_delivered_once(self):
        """Each study that was sent has one set of results at the PACS, and no object came twice."""
        studies = self.sent
        self.wait(partial(self.all_done, studies))
        uids = Counter(dataset.SOPInstanceUID for dataset in self.pacs.taken)
        assert set(uids.values()) == {1}
        assert len(uids) == studies * OBJECTS_A_STUDY
        assert self.ask("SELECT DISTINCT state FROM deliveries") == [("delivered",)]


@pytest.fixture(scope="module")
def running(server, tmp_path_factory):
    with ExitStack() as stack:
        pacs = stack.enter_context(Pacs())
        site = Site(tmp_path_factory.mktemp("site"), server, pacs, stack)
        site.receiver = site.node("receiver", "receive")
        site.one, site.other = (site.node(name, "analyse", "deliver") for name in ("one", "other"))
        yield site
        site.engine.dispose()


@pytest.fixture
def site(running):
    """All three nodes, up and ready."""
    for node in running.nodes.values():
        if not node.runs:
            node.start()
        running.wait(node.is_ready)
    return running


def freeze_while_analysing(site, names=("one", "other"), *, studies=1):
    """One of these nodes, frozen in the middle of an analysis, its name, and the job that it has claimed."""

    def claims():
        return {name: job for name, job in site.claims().items() if name in names}

    for _ in range(10):
        site.send(site.receiver, studies)
        site.wait(lambda: claims() or site.all_done(site.sent))
        for name, job in claims().items():
            site.nodes[name].signal(signal.SIGSTOP)
            if claims().get(name) == job:
                return site.nodes[name], name, job
            site.nodes[name].signal(signal.SIGCONT)
    pytest.fail("no analysis was caught under way")


def taken_over(site, name, job):
    return site.ask(f"SELECT claimed_by FROM jobs WHERE id = {job} AND claimed_by <> '{name}'")


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
