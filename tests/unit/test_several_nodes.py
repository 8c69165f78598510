"""Several nodes on one PostgreSQL: what one has claimed no other does; what a dead one had claimed another takes over.

A node that was only frozen finds its claim gone when it wakes.
"""

import os
from contextlib import contextmanager

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError

from ichnode.config import Settings
from ichnode.domain.job import JobState
from ichnode.domain.study import Instance
from ichnode.errors import StaleClaim
from ichnode.node import Node
from ichnode.storage.dialect import new_engine
from ichnode.storage.files import FileStore
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.nodes import BEAT_S, DEAD_AFTER_S, Nodes
from ichnode.storage.outbox import Outbox
from ichnode.storage.schema import nodes
from tests.finished_study import Clinic

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
NOW = 1000.0


@pytest.fixture
def clinic(engine, tmp_path):
    clinic = Clinic(engine, tmp_path)
    clinic.receive()
    clinic.decide()
    return clinic


@pytest.fixture
def join(engine):
    """A node of this name lives from now on; its view of the others."""

    def join(name, *roles):
        node = Nodes(engine, name=name, roles=roles or ("receive", "analyse", "deliver"))
        node.beat()
        return node

    return join


@pytest.fixture
def freeze(engine):
    """A node has not beaten for long enough to be taken for dead."""

    def freeze(name):
        with engine.begin() as db:
            late = nodes.c.beat_at - DEAD_AFTER_S - 1
            db.execute(update(nodes).where(nodes.c.name == name).values(beat_at=late))

    return freeze


def page(uid="2.0"):
    return ResultFile(
        role="summary_page", sop_instance_uid=uid, sop_class_uid="3", series_instance_uid="4", file="/f", size_bytes=1
    )


def finish(ledger, job):
    return ledger.finish_analysis(job, [page()], findings=None, seconds={}, at=NOW)


def test_one_claim_wins_and_a_living_node_keeps_it(engine, clinic, join):
    join("a"), join("b")
    one, other = Ledger(engine, node="a"), Ledger(engine, node="b")
    job = one.claim(at=NOW)
    assert other.claim(at=NOW) is None
    assert (other.take_over(at=NOW), other.recover(at=NOW)) == (0, 0)
    assert finish(one, job) is JobState.DELIVERING


def test_a_dead_node_s_job_is_taken_over_and_the_node_finds_its_claim_gone_when_it_wakes(engine, clinic, join, freeze):
    join("a"), join("b")
    frozen, living = Ledger(engine, node="a"), Ledger(engine, node="b")
    lost = frozen.claim(at=NOW)
    freeze("a")
    assert living.take_over(at=NOW) == 1
    with pytest.raises(StaleClaim):
        finish(frozen, lost)  # nobody works on it yet
    job = living.claim(at=NOW)
    for done in (finish, lambda ledger, job: ledger.give_back(job, detail="", at=NOW)):
        with pytest.raises(StaleClaim):
            done(frozen, lost)  # somebody else does, and the state is the same
    assert finish(living, job) is JobState.DELIVERING
    assert len(History(engine).results(job.id)) == 1


def test_a_node_that_starts_takes_back_its_own_claims_alone(engine, clinic, join):
    join("a"), join("b")
    Ledger(engine, node="a").claim(at=NOW)
    assert Ledger(engine, node="b").recover(at=NOW) == 0
    assert Ledger(engine, node="a").recover(at=NOW) == 1


def test_a_delivery_is_claimed_by_one_node_until_that_dies_and_then_counts_for_the_other(engine, clinic, join, freeze):
    join("a"), join("b")
    one, other = Outbox(engine, node="a"), Outbox(engine, node="b")
    clinic.analyse()
    (claimed,) = one.due("pacs", at=clinic.now)
    assert other.due("pacs", at=clinic.now) == []
    assert [offer.job_id for offer in other.due_jobs("pacs", at=clinic.now)] == []
    freeze("a")
    assert [offer.job_id for offer in other.due_jobs("pacs", at=clinic.now)] == [claimed.job_id]
    (taken,) = other.due("pacs", at=clinic.now, job_id=claimed.job_id)
    with pytest.raises(StaleClaim):
        one.expect_claim(claimed)
    with pytest.raises(StaleClaim):
        one.delivered(claimed, status=0, at=clinic.now)
    other.expect_claim(taken)
    assert other.delivered(taken, status=0, at=clinic.now) is JobState.DONE


def test_a_postponed_delivery_is_free_for_every_node(engine, clinic, join):
    join("a"), join("b")
    clinic.analyse()
    one, other = Outbox(engine, node="a"), Outbox(engine, node="b")
    one.postponed(one.due("pacs", at=clinic.now)[0], status=None, error="no", until=clinic.now + 5)
    assert len(other.due("pacs", at=clinic.now + 5)) == 1


def test_the_first_living_node_with_the_role_leads(join, freeze):
    a, b, c = join("a", "receive"), join("b", "deliver"), join("c", "receive")
    assert [node.leads("receive") for node in (a, b, c)] == [True, False, False]
    assert [node.leads() for node in (a, b, c)] == [True, False, False]
    freeze("a")
    assert [node.leads("receive") for node in (a, b, c)] == [False, False, True]
    c.leave()
    assert [node.name for node in b.living()] == ["b"]


def test_associations_that_a_dead_node_left_open_are_lost_and_those_of_the_living_are_not(engine, join, freeze):
    join("a"), join("b")
    for name in ("a", "b"):
        Intake(engine, node=name).open_association(calling_ae_title=name, peer="x", at=NOW)
    freeze("a")
    Intake(engine, node="b").close_associations_of_dead_nodes(at=NOW)
    with engine.connect() as db:
        rows = db.execute(text("SELECT calling_ae_title, ending FROM associations ORDER BY 1")).all()
    assert [tuple(row) for row in rows] == [("a", "lost"), ("b", None)]


@contextmanager
def built(engine, folder, *, name, node_clock, **options):
    """A node that delivers, whose turns are taken by the test; it beats by `node_clock`."""
    sections = {
        "database": {"url": engine.url.render_as_string(hide_password=False)},
        "node": {"data_dir": str(folder), "name": name, "roles": ["deliver"]},
        "web": {"port": 0},
    }
    node = Node(Settings.model_validate(sections), **options)
    try:
        node._nodes = Nodes(engine, name=name, roles=["deliver"], clock=node_clock)
        yield node
    finally:
        node._web._door.close()
        node._engine.dispose()
        os.close(node._lock)


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self):
        return self.now


def beats(node, clock, seconds, *, every=BEAT_S):
    """For so many seconds."""
    for _ in range(round(seconds / every)):
        clock.now += every
        node.beat()


def test_a_node_judges_others_once_it_has_beaten_for_as_long_as_makes_a_node_dead(engine):
    clock = Clock()
    node = Nodes(engine, name="a", roles=["deliver"], clock=clock)
    assert not node.may_judge()
    node.beat()
    beats(node, clock, DEAD_AFTER_S - BEAT_S)
    assert not node.may_judge()
    beats(node, clock, BEAT_S)
    assert node.may_judge()
    clock.now += 4 * BEAT_S  # it was frozen, or PostgreSQL did not answer
    assert not node.may_judge()
    node.beat()
    assert not node.may_judge()
    beats(node, clock, DEAD_AFTER_S)
    assert node.may_judge()


def test_a_beat_that_failed_begins_the_wait_anew(engine, monkeypatch):
    clock = Clock()
    node = Nodes(engine, name="a", roles=["deliver"], clock=clock)
    node.beat()
    beats(node, clock, DEAD_AFTER_S)
    with monkeypatch.context() as away:
        away.setattr(node, "_engine", new_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing"))
        with pytest.raises(OperationalError):
            node.beat()
    assert not node.may_judge()
    node.beat()
    beats(node, clock, DEAD_AFTER_S - BEAT_S)
    assert not node.may_judge()
    beats(node, clock, BEAT_S)
    assert node.may_judge()


def test_the_first_node_to_beat_after_postgresql_was_away_takes_nothing_from_the_living(
    engine, clinic, join, freeze, tmp_path
):
    join("a")
    held = Ledger(engine, node="a").claim(at=NOW)
    Intake(engine, node="a").open_association(calling_ae_title="a", peer="x", at=NOW)
    freeze("a")  # it could not beat while PostgreSQL was away
    clock = Clock()
    with built(engine, tmp_path, name="b", node_clock=clock) as node:
        node._beat()
        assert finish(Ledger(engine, node="a"), held) is JobState.DELIVERING
        (claimed,) = Outbox(engine, node="a").due("pacs", at=NOW)
        assert node.outbox.due_jobs("pacs", at=NOW) == []
        assert node.outbox.due("pacs", at=NOW, job_id=claimed.job_id) == []
        with engine.connect() as db:
            assert db.execute(text("SELECT count(*) FROM associations WHERE ending = 'lost'")).scalar() == 0
        for _ in range(round(DEAD_AFTER_S / BEAT_S)):
            clock.now += BEAT_S
            node._beat()
        with engine.connect() as db:
            assert db.execute(text("SELECT count(*) FROM associations WHERE ending = 'lost'")).scalar() == 1
        assert [one.job_id for one in node.outbox.due("pacs", at=NOW)] == [claimed.job_id]


def test_what_a_node_left_that_never_comes_back_is_removed_by_the_one_that_leads(engine, join, freeze, tmp_path):
    day = 86_400
    for name in ("a", "gone", "long-gone", "stopped"):
        join(name)
    freeze("gone"), join("stopped").leave()
    with engine.begin() as db:
        db.execute(update(nodes).where(nodes.c.name == "long-gone").values(beat_at=nodes.c.beat_at - day - 1))
    left = {}
    for name in ("a", "gone", "long-gone", "stopped"):
        store = FileStore(tmp_path / "instances", owner=name)
        kept, left[name] = store.keep([b"x"]), store.begin()._temporary
        assert kept.parent == left[name].parent
    just_now = FileStore(tmp_path / "instances", owner="gone").begin()._temporary
    now, clock = just_now.stat().st_mtime, Clock()
    with built(engine, tmp_path, name="a", node_clock=clock, clock=lambda: now + 1) as node:
        for file in left.values():
            os.utime(file, (now - 700, now - 700))
        node._tidy()
        assert all(file.exists() for file in left.values())  # PostgreSQL may have been away
        node._nodes.beat()
        beats(node._nodes, clock, DEAD_AFTER_S)
        node._tidy()
        assert {name for name, file in left.items() if file.exists()} == {"a"}
        assert just_now.exists()
        assert len(list((tmp_path / "instances").rglob("*.dcm"))) == 4
        with engine.connect() as db:
            assert set(db.execute(text("SELECT name FROM nodes")).scalars()) == {"a", "gone"}


def test_headers_that_are_not_finite_and_names_that_hold_a_nul_are_kept(engine):
    intake = Intake(engine)
    association = intake.open_association(calling_ae_title="C\0T", peer="x", at=NOW)
    header = {
        "RescaleSlope": float("nan"),
        "ImagePositionPatient": (0.0, float("-inf"), 1.5),
        "SeriesDescription": "a\0b",
    }
    instance = Instance(
        sop_instance_uid="1.1",
        sop_class_uid="1.2",
        series_instance_uid="1",
        study_instance_uid="1",
        transfer_syntax_uid="1.3",
        file="/f",
        header=header,
        association_id=association,
        received_at=NOW,
    )
    intake.keep(instance, sha256="a", size_bytes=3_000_000_000)
    (kept,) = intake.snapshot("1", last_instance_id=99).instances
    assert repr(kept.header) == repr(header)
    assert intake.stored_bytes() == 3_000_000_000
