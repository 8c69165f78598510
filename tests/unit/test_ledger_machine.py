"""Whatever order things happen in, jobs move along the table, results are delivered once, and the story adds up.

Hypothesis plays the receiver, the assembling stage, two workers (of which one may be a zombie that was taken for dead),
destinations, a person at the command line and kill -9, in any order.
"""

import shutil
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlalchemy import select

from ichnode.domain.job import TRANSITIONS, UNFINISHED, Job, JobState
from ichnode.domain.reasons import Reason
from ichnode.domain.study import Instance
from ichnode.errors import StaleClaim
from ichnode.storage.audit import AuditTrail
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.outbox import Outbox
from ichnode.storage.schema import deliveries, events, jobs, open_engine, results
from tests.planned_job import planned_job

IN_MEMORY = Path("/dev/shm")  # where it is: the machine commits thousands of times
DESTINATIONS = ("pacs", "archive")


class LedgerMachine(RuleBasedStateMachine):
    """One study of two series."""

    claims = Bundle("claims")  # jobs as workers hold them, also those that were taken away since

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.engine = open_engine(f"sqlite:///{self.folder}/ichnode.db")
        self.ledger, self.outbox = Ledger(self.engine), Outbox(self.engine)
        self.intake, self.history = Intake(self.engine), History(self.engine)
        self.now = 1000.0
        self.received = 0
        self.association = self.intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=self.now)

    def teardown(self) -> None:
        assert AuditTrail(self.engine).verify() == []
        self.engine.dispose()
        shutil.rmtree(self.folder)

    @rule(series=st.integers(1, 2))
    def an_instance_arrives(self, series):
        self.received += 1
        instance = Instance(
            sop_instance_uid=f"1.{series}.{self.received}",
            sop_class_uid="1.2",
            series_instance_uid=f"1.{series}",
            study_instance_uid="1",
            transfer_syntax_uid="1.3",
            file=f"/{self.received}",
            header={},
            association_id=self.association,
            received_at=self.now,
        )
        self.intake.keep(instance, sha256=str(self.received), size_bytes=1)

    @rule(
        destinations=st.sampled_from([(), DESTINATIONS[:1], DESTINATIONS]),
        priority=st.sampled_from(["stat", "routine"]),
    )
    def the_study_is_decided(self, destinations, priority):
        for waiting in self.intake.waiting_studies():
            snapshot = self.intake.snapshot("1", last_instance_id=waiting.last_instance_id)
            planned = [
                self.plan(s.series_instance_uid, str(len(s.instances)), destinations, priority) for s in snapshot.series
            ]
            self.ledger.record_decisions(
                "1",
                planned,
                last_instance_id=waiting.last_instance_id,
                last_received_at=self.now,
                evidence="quiet",
                at=self.now,
            )

    @rule(target=claims)
    def a_worker_claims(self):
        job = self.ledger.claim(at=self.now)
        return multiple() if job is None else job

    @rule(job=consumes(claims), count=st.integers(0, 3))
    def a_worker_finishes(self, job: Job, count):
        composed = [
            ResultFile(
                role=f"role {n}",
                sop_instance_uid=f"2.{job.id}.{n}",  # made of the job's input: the same in each attempt
                sop_class_uid="3",
                series_instance_uid="4",
                file=f"/{job.id}.{n}",
            )
            for n in range(count)
        ]
        self.if_it_still_holds(
            job, lambda: self.ledger.finish_analysis(job, composed, findings=None, seconds={}, at=self.now)
        )

    @rule(job=consumes(claims))
    def a_worker_fails(self, job: Job):
        self.if_it_still_holds(
            job, lambda: self.ledger.fail_attempt(job, reason="error", detail="of a test", at=self.now)
        )

    @rule(job=consumes(claims))
    def a_gate_refuses(self, job: Job):
        self.if_it_still_holds(job, lambda: self.ledger.refuse(job, reason="tilt", detail="", at=self.now))

    @rule(job=consumes(claims))
    def a_worker_gives_back(self, job: Job):
        self.if_it_still_holds(job, lambda: self.ledger.give_back(job, detail="stop", at=self.now))

    @rule()
    def the_node_is_killed_and_starts_again(self):
        self.ledger.recover(at=self.now)

    @rule(
        destination=st.sampled_from(DESTINATIONS), what=st.sampled_from(["delivered", "refused", "dead", "postponed"])
    )
    def a_destination_answers(self, destination, what):
        for delivery in self.outbox.due(destination, at=self.now)[:1]:
            if what == "delivered":
                self.outbox.delivered(delivery, status=0, at=self.now)
            elif what == "postponed":
                self.outbox.postponed(delivery, status=None, error="no answer", until=self.now)
            else:
                getattr(self.outbox, what)(delivery, status=0xA900, error="of a test", at=self.now)

    @rule(data=st.data())
    def a_person_retries(self, data):
        if known := self.history.list_jobs():
            self.ledger.retry(data.draw(st.sampled_from([job.id for job in known])), at=self.now, who="somebody")

    @rule(data=st.data())
    def a_person_raises_to_stat(self, data):
        if known := self.history.list_jobs():
            self.ledger.raise_to_stat(data.draw(st.sampled_from([job.id for job in known])), at=self.now, who="x")

    @rule(data=st.data(), input_sha256=st.sampled_from(["other", "third"]))
    def a_person_runs_it_again(self, data, input_sha256):
        if known := self.history.list_jobs():
            job = data.draw(st.sampled_from(known))
            plan = self.plan(job.series_instance_uid, input_sha256, job.send_to, "routine")
            self.ledger.run_again(job.id, replace(plan, reason=Reason.BY_HAND), at=self.now, who="x")

    @rule(data=st.data())
    def a_person_drops(self, data):
        if known := self.history.list_jobs():
            self.ledger.drop(data.draw(st.sampled_from([job.id for job in known])), at=self.now, who="somebody")

    def plan(self, series, input_sha256, destinations, priority):
        return planned_job(series, send_to=destinations, priority=priority, input_sha256=input_sha256)

    def if_it_still_holds(self, job: Job, act) -> None:
        """A worker whose claim was taken away changes nothing."""
        before = self.history.job(job.id)
        try:
            act()
        except StaleClaim:
            assert self.history.job(job.id) == before
        else:
            assert before.state is JobState.ANALYSING

    @invariant()
    def every_job_moved_along_the_table_and_its_events_tell_it(self):
        with self.engine.connect() as db:
            for job_id, state in db.execute(select(jobs.c.id, jobs.c.state)).all():
                moves = select(events.c.from_state, events.c.to_state).where(events.c.job_id == job_id)
                told = db.execute(moves.order_by(events.c.id)).all()
                assert told[0].from_state is None
                assert told[-1].to_state == state
                for earlier, later in pairwise(told):
                    assert later.from_state == earlier.to_state
                    assert JobState(later.to_state) in TRANSITIONS[JobState(later.from_state)]

    @invariant()
    def of_each_series_the_newest_job_alone_can_be_unfinished(self):
        newest: dict[str, int] = {}
        for job in sorted(self.history.list_jobs(), key=lambda job: job.id):
            newest[job.series_instance_uid] = job.id
        for job in self.history.list_jobs():
            if job.id != newest[job.series_instance_uid]:
                assert job.state not in UNFINISHED, job

    @invariant()
    def every_result_has_one_delivery_for_each_destination_and_states_agree(self):
        with self.engine.connect() as db:
            for job in self.history.list_jobs():
                of_job = db.execute(select(results.c.id).where(results.c.job_id == job.id)).scalars().all()
                rows = db.execute(select(deliveries).where(deliveries.c.job_id == job.id)).all()
                assert sorted((row.result_id, row.destination) for row in rows) == sorted(
                    (result, destination) for result in of_job for destination in job.send_to
                )
                states = {row.state for row in rows}
                if job.state is JobState.DONE:
                    assert states <= {"delivered", "replaced"}
                elif job.state is JobState.DELIVERING:
                    assert states & {"pending", "sent"}
                else:
                    assert not states & {"pending"}


LedgerMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLedgerMachine = LedgerMachine.TestCase
