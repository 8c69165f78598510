"""The reactor of an association stands still while a response is awaited, whenever it is stopped."""

import sys
import threading

import pytest

from ichnode.dicom.checkpoint import Checkpoint

STOPS = 3000


class Reactor(threading.Thread):
    """Comes by at its checkpoint over and over, as pynetdicom's does."""

    def __init__(self):
        super().__init__(daemon=True)
        self.checkpoint = Checkpoint(self)
        self.rounds, self.ended = 0, False

    def run(self):
        while not self.ended:
            self.checkpoint.wait()
            self.rounds += 1

    def end(self):
        self.ended = True
        self.checkpoint.set()
        self.join(5)


@pytest.fixture
def reactor():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads meet at every line
    reactor = Reactor()
    reactor.start()
    yield reactor
    reactor.end()
    sys.setswitchinterval(interval)
    assert not reactor.is_alive()


def test_once_it_is_stopped_the_reactor_does_nothing_until_it_may_go_on(reactor):
    for _ in range(STOPS):
        reactor.checkpoint.clear()
        before = reactor.rounds
        for _ in range(20):
            threading.Event().wait(0)  # others may run
        assert reactor.rounds == before
        reactor.checkpoint.set()


def test_stopping_a_reactor_that_has_ended_does_not_wait(reactor):
    reactor.end()
    reactor.checkpoint.clear()


def test_a_reactor_may_stop_itself():
    stopped = []

    def run():
        checkpoint.clear()
        stopped.append(not checkpoint.is_set())

    thread = threading.Thread(target=run)
    checkpoint = Checkpoint(thread)
    thread.start()
    thread.join(5)
    assert stopped == [True]
