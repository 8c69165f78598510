"""A PostgreSQL whose machine vanished: whoever waits for it is told so, and does not wait for TCP to give up."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from ichnode.storage.dialect import may_be_committed, new_engine, reading
from tests.vanishing_host import BRIEFLY, vanishing_host

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
SOON_S = 30


@pytest.fixture
def host(engine):
    with vanishing_host(engine.url.port) as host:
        yield host


@pytest.fixture
def connected(engine, host):
    """An engine that is connected by way of the host, with these limits."""
    engines = []

    def connected(**limits):
        url = engine.url.set(port=host.port, query=limits)
        engines.append(new_engine(url.render_as_string(hide_password=False)))
        return engines[-1]

    yield connected
    for each in engines:
        each.dispose()


def test_a_commit_is_given_up_within_15_s_and_may_have_happened(connected, host):
    with connected().connect() as db:
        transaction = db.begin()
        db.execute(text("CREATE TABLE kept (id integer)"))
        host.vanish()
        began = time.monotonic()
        with pytest.raises(OperationalError) as problem:
            transaction.commit()
    assert time.monotonic() - began < 15
    assert may_be_committed(problem.value)


def test_an_answer_is_not_waited_for_after_the_question_was_received(engine, connected, host):
    with connected(**BRIEFLY).connect() as db, ThreadPoolExecutor() as beside:
        asked = beside.submit(db.execute, text("SELECT pg_sleep(600)"))
        wait_until_it_is_asked(engine)
        host.vanish()
        with pytest.raises(OperationalError, match="timed out"):
            asked.result(timeout=SOON_S)


def wait_until_it_is_asked(engine):
    pause = threading.Event()
    for _ in range(SOON_S * 20):
        with reading(engine) as db:
            asked = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
            if db.exec_driver_sql(asked).first():
                return
        pause.wait(0.05)
    raise AssertionError("nobody asks")
