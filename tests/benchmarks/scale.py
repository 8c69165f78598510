"""100,000 head CTs a day on 1, 4, 16 and 64 GPU nodes, simulated; what the ledger on PostgreSQL does, measured.

A discrete-event simulation: studies arrive as a day of hospitals has them, and queue for a receiver, the ledger, a GPU
and a deliverer, each with its measured service time. The ledger has one writer at a time; how long a study keeps it is
measured here, on a real PostgreSQL with fsync.
"""

import heapq
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ichnode.domain.study import Instance
from ichnode.storage.history import ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.nodes import Nodes
from ichnode.storage.outbox import Outbox
from ichnode.storage.schema import open_engine
from tests.benchmarks.table import ICHNODE, Row
from tests.planned_job import planned_job
from tests.postgres import cluster

TITLE = "100,000 head CTs a day, by GPU nodes; and the ledger on PostgreSQL"
DAY_S = 86_400.0
# Head CTs an hour, of the mean hour: emergency departments by day and evening, wards in the morning, few at night.
BY_HOUR = (
    0.5,
    0.4,
    0.35,
    0.3,
    0.3,
    0.4,
    0.6,
    0.9,
    1.3,
    1.6,
    1.7,
    1.7,
    1.6,
    1.6,
    1.6,
    1.5,
    1.4,
    1.3,
    1.2,
    1.1,
    1.0,
    0.9,
)
BY_HOUR += (0.75, 0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """How many of each there are, and how long each works on a study, in seconds."""

    gpus: int
    receivers: int = 2
    deliverers: int = 2
    studies_a_day: int = 100_000
    receive_s: float = 32 / 250  # 32 slices, at what a receiver does a second (docs/performance.md)
    quiet_s: float = 10.0
    analyse_s: float = 2.6
    ledger_s: float = 0.05
    deliver_s: float = 0.3
    stat_share: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A simulated day: seconds from the last image to the last result, without the quiet time."""

    delivered: int  # by the end of the day
    median_s: float
    p99_s: float
    stat_p99_s: float
    longest_queue: int
    gpu_share: float  # of the time that they work


class _Servers:
    """So many alike servers, STAT first; the ones waiting in order of arrival."""

    def __init__(self, count: int, service_s: float) -> None:
        self.free, self.service_s = count, service_s
        self.waiting: list[tuple[int, float, int]] = []  # rank, since, study


def simulate(site: Site, *, seed: int = 1) -> Outcome:
    """One day, from an empty site; what is not delivered by midnight is finished after it."""
    rng = random.Random(seed)
    arrivals = list(_arrivals(site, rng))
    ranks = [0 if rng.random() < site.stat_share else 1 for _ in arrivals]
    stages = [
        _Servers(site.receivers, site.receive_s),
        _Servers(1, site.ledger_s),
        _Servers(site.gpus, site.analyse_s),
        _Servers(site.deliverers, site.deliver_s),
    ]
    events = [(at, study, 0, True) for study, at in enumerate(arrivals)]  # when, who, stage, arrives (else: is served)
    heapq.heapify(events)
    received, took, delivered, longest, worked = [0.0] * len(arrivals), [0.0] * len(arrivals), 0, 0, 0.0
    while events:
        now, study, number, arrives = heapq.heappop(events)
        stage = stages[number]
        if arrives:
            heapq.heappush(stage.waiting, (ranks[study], now, study))
        else:
            stage.free += 1
            if number == 0:
                received[study] = now
            if number + 1 < len(stages):
                heapq.heappush(events, (now + (site.quiet_s if number == 0 else 0.0), study, number + 1, True))
            else:
                took[study] = now - received[study] - site.quiet_s
                delivered += now <= DAY_S
        while stage.free and stage.waiting:
            stage.free -= 1
            _, _, next_study = heapq.heappop(stage.waiting)
            service_s = stage.service_s * rng.uniform(0.8, 1.2)
            worked += service_s * (number == 2 and now <= DAY_S)
            heapq.heappush(events, (now + service_s, next_study, number, False))
        longest = max(longest, len(stages[2].waiting))
    stat = [seconds for seconds, rank in zip(took, ranks, strict=True) if rank == 0]
    return Outcome(
        delivered=delivered,
        median_s=_quantile(took, 0.5),
        p99_s=_quantile(took, 0.99),
        stat_p99_s=_quantile(stat, 0.99),
        longest_queue=longest,
        gpu_share=worked / (site.gpus * DAY_S),
    )


def _arrivals(site: Site, rng: random.Random) -> Iterator[float]:
    mean = site.studies_a_day / 24
    scale = 24 / sum(BY_HOUR)
    for hour, weight in enumerate(BY_HOUR):
        for _ in range(round(mean * weight * scale)):
            yield (hour + rng.random()) * 3600


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(*, gpus: tuple[int, ...] = (1, 4, 16, 64), studies_a_day: int = 100_000, seconds: float = 5.0) -> list[Row]:
    """The measured ledger, and a simulated day for each number of GPU nodes with it."""
    try:
        with cluster(durable=True) as server, tempfile.TemporaryDirectory(prefix="ichnode-benchmark-") as folder:
            measured = _Measured(lambda: open_engine(server.url(server.database())), Path(folder), seconds)
            rows, study_s = measured.rows(), measured.study_s
    except pytest.skip.Exception:
        rows = [Row(case="ledger", contestant=ICHNODE, setting="PostgreSQL, fsync", value=None, unit="a second")]
        study_s = Site.ledger_s
    sites = [Site(gpus=count, ledger_s=study_s, studies_a_day=studies_a_day) for count in gpus]
    sites[-1:] = [replace(sites[-1], receivers=4, deliverers=4)] if len(sites) > 1 else sites
    return rows + [_row(site, simulate(site)) for site in sites]


def _row(site: Site, day: Outcome) -> Row:
    servers = f"{site.receivers} receivers, {site.deliverers} deliverers"
    return Row(
        case=f"{site.gpus} GPU nodes, simulated",
        contestant=ICHNODE,
        setting=f"{site.analyse_s:g} s a head; ledger {site.ledger_s * 1000:.0f} ms; {servers}",
        value=day.p99_s,
        unit="s (99 %)",
        note=f"median {day.median_s:.1f} s, STAT 99 % {day.stat_p99_s:.1f} s; {day.delivered} by midnight; "
        f"longest queue {day.longest_queue}; GPUs work {day.gpu_share:.0%}",
    )


class _Measured:
    """What the ledger does a second, with so many threads that each have connections of their own."""

    def __init__(self, new_ledger: Callable[[], Engine], folder: Path, seconds: float) -> None:
        self._new_ledger, self._folder, self._seconds = new_ledger, folder, seconds
        self.study_s = 0.0

    def rows(self) -> list[Row]:
        result = []
        for threads in (1, 4, 16):
            engine = self._new_ledger()
            _join(engine, threads)
            instances = self._rate(threads, lambda n, engine=engine: _receiver(engine, n))
            stories = self._rate(threads, lambda n, engine=engine: _stories(engine, n))
            claims = self._rate(threads, lambda n, engine=engine: _claims(engine, n))
            engine.dispose()
            self.study_s = 1 / stories if not self.study_s else min(self.study_s, 1 / stories)
            setting = f"PostgreSQL, fsync, {threads} at once"
            unit = "a second"
            day = f"{stories * DAY_S:,.0f} studies a day: more than that no number of nodes does"
            result += [
                Row(case="instances committed", contestant=ICHNODE, setting=setting, value=instances, unit=unit),
                Row(case="claims and their ends", contestant=ICHNODE, setting=setting, value=claims, unit=unit),
                Row(case="studies, from decision to 4 deliveries", contestant=ICHNODE, setting=setting, value=stories,
                    unit=unit, note=day),
            ]  # fmt: skip
        return result

    def _rate(self, threads: int, worker: Callable[[int], Callable[[], object]]) -> float:
        """Calls a second, of all threads together."""
        workers, done = [worker(number) for number in range(threads)], [0] * threads
        until = time.monotonic() + self._seconds

        def work(number: int) -> None:
            while time.monotonic() < until:
                workers[number]()
                done[number] += 1

        began = time.monotonic()
        running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return sum(done) / (time.monotonic() - began)


def _join(engine: Engine, threads: int) -> None:
    for number in range(threads):
        Nodes(engine, name=f"n{number}", roles=["analyse"]).beat()


def _instance(study: str, number: int, association: int) -> Instance:
    return Instance(
        sop_instance_uid=f"{study}.1.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        series_instance_uid=f"{study}.1",
        study_instance_uid=study,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file=f"/{study}/{number}",
        header={f"Keyword{i}": "a value of some length" for i in range(40)},
        association_id=association,
        received_at=1.0,
    )


def _receiver(engine: Engine, thread: int) -> Callable[[], object]:
    intake = Intake(engine, node=f"n{thread}")
    association = intake.open_association(calling_ae_title="CT", peer="x", at=1.0)
    numbers = iter(range(10**9))
    return lambda: intake.keep(
        _instance(f"1.{thread}", next(numbers), association), sha256=f"{next(numbers)}", size_bytes=1
    )


def _stories(engine: Engine, thread: int) -> Callable[[], object]:
    """Everything that the ledger does of a study after its instances: decision, claim, results, four deliveries."""
    intake, name = Intake(engine, node=f"n{thread}"), f"n{thread}"
    ledger, outbox = Ledger(engine, node=name), Outbox(engine, node=name)
    numbers = iter(range(10**9))

    def story() -> None:
        study = f"2.{thread}.{next(numbers)}"
        association = intake.open_association(calling_ae_title="CT", peer="x", at=1.0)
        intake.keep(_instance(study, 1, association), sha256=study, size_bytes=1)
        intake.close_association(association, ending="released", at=1.0)
        last = intake.snapshot(study, last_instance_id=2**62).series[0].instances
        assert last
        waiting = next(w for w in intake.waiting_studies() if w.study_instance_uid == study)
        _decide(ledger, study, waiting.last_instance_id)
        job_id = next(offer.job_id for offer in ledger.ready() if offer.lock == study)
        job = ledger.claim(at=1.0, job_id=job_id)
        assert job
        files = [
            ResultFile(
                role=f"r{n}", sop_instance_uid=f"{study}.9.{n}", sop_class_uid="1", series_instance_uid="1", file=""
            )
            for n in range(4)
        ]
        ledger.finish_analysis(job, files, findings={}, seconds={}, at=1.0)
        for delivery in outbox.due("pacs", at=2.0, job_id=job.id):
            outbox.expect_claim(delivery)
            outbox.delivered(delivery, status=0, at=2.0)

    return story


def _claims(engine: Engine, thread: int) -> Callable[[], object]:
    """A claim and its end, over and over: two guarded transitions."""
    name, study = f"n{thread}", f"3.{thread}"
    intake, ledger = Intake(engine, node=name), Ledger(engine, node=name)
    association = intake.open_association(calling_ae_title="CT", peer="x", at=1.0)
    intake.keep(_instance(study, 1, association), sha256=study, size_bytes=1)
    waiting = next(w for w in intake.waiting_studies() if w.study_instance_uid == study)
    _decide(ledger, study, waiting.last_instance_id)
    job_id = next(offer.job_id for offer in ledger.ready() if offer.lock == study)

    def claim() -> None:
        job = ledger.claim(at=1.0, job_id=job_id)
        assert job
        ledger.give_back(job, detail="", at=1.0)

    return claim


def _decide(ledger: Ledger, study: str, last_instance_id: int) -> None:
    plan = planned_job(f"{study}.1", input_sha256=study)
    ledger.record_decisions(
        study, [plan], last_instance_id=last_instance_id, last_received_at=1.0, evidence="quiet", at=1.0
    )
