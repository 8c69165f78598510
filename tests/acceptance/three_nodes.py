"""Three `ichnode serve` on one real PostgreSQL and one folder, their PACS, and how one of them is caught at work."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from ichnode.domain.job import JobState
from ichnode.phantom import REGULAR
from ichnode.storage.dialect import new_engine, reading
from tests.acceptance.scanner import Scanner, scan
from tests.acceptance.serve import Serve
from tests.pacs import Pacs
from tests.postgres import cluster

SMALL = replace(REGULAR, rows=64, columns=64)
OBJECTS_A_STUDY = 4  # a segmentation, two reports, a page
_pause = threading.Event()


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


@contextmanager
def three_nodes(folder: Path) -> Iterator[Site]:
    """A receiver, and two that analyse and deliver."""
    with cluster(durable=True) as server, Pacs() as pacs, ExitStack() as stack:
        site = Site(folder, server, pacs, stack)
        site.receiver = site.node("receiver", "receive")
        for name in ("one", "other"):
            site.node(name, "analyse", "deliver")
        yield site
        site.engine.dispose()


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
    """Who has the job now, if it is not that node any more."""
    return site.ask(f"SELECT claimed_by FROM jobs WHERE id = {job} AND claimed_by <> '{name}'")
