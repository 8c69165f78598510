"""Kills at random moments, also during a start, while slices come in over several associations and heads are analysed.

Senders keep what is not acknowledged, as scanners do. At the end every acknowledged object must be there byte for byte
and every head have its results once. How long the node may live follows from how long a first head takes it here: with
shorter lives no analysis would ever end, and each job would be parked as the one during which the node always dies.
"""

import hashlib
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

from ichnode.phantom import REGULAR
from tests.acceptance.scanner import ScannedStudy, Scanner, data_set_of, scan
from tests.acceptance.serve import Serve
from tests.hostile import pdus
from tests.hostile.data_sets import PIXELS, SERIES, STUDY, ct_image, new_uid
from tests.hostile.peer import Peer
from tests.pacs import ArchivingPacs
from tests.postgres import cluster
from tests.soak.figures import Figure

TITLE = "kill -9 under load"
RESULTS = 4  # of one head: one SEG, two reports, one page
SIZE = 128  # rows and columns of a slice
ROWS, COLUMNS = 0x00280010, 0x00280011
LONGEST_START_S = 4.0
KILLED_DURING_START = 0.2  # of all kills
HEADS_EVERY = 4  # kills


@dataclass
class Feeder:
    """One association after another that stores slices of one series, until it is told to stop."""

    port: int
    study: bytes = field(default_factory=new_uid)
    series: bytes = field(default_factory=new_uid)
    acknowledged: list[bytes] = field(default_factory=list)
    over: Event = field(default_factory=Event)

    def run(self) -> None:
        while not self.over.is_set():
            with suppress(OSError, AssertionError), Peer(self.port) as peer:
                self._store(peer.associate())
            self.over.wait(0.1)

    def data_set(self, uid: bytes) -> bytes:
        """The slice of that UID, always the same."""
        pixels = hashlib.shake_128(uid).digest(SIZE * SIZE * 2)
        series = {STUDY: (b"UI", self.study), SERIES: (b"UI", self.series)}
        size = {ROWS: (b"US", SIZE), COLUMNS: (b"US", SIZE), PIXELS: (b"OW", pixels)}
        return ct_image(uid).but(series | size).encoded()

    def _store(self, peer: Peer) -> None:
        while not self.over.is_set():
            uid = new_uid()
            if peer.store(pdus.CT, uid, self.data_set(uid)).outcome != 0x0000:
                return
            self.acknowledged.append(uid)
        peer.ask(pdus.RELEASE)


def measure(
    folder: Path, *, kills: int, objects: int, feeders: int = 4, seed: int = 1, database: str | None = None
) -> list[Figure]:
    """Kill so often, and go on until so many objects are acknowledged. `database`: URL of a PostgreSQL, or SQLite."""
    sections: dict[str, Any] = {
        "database": {"url": database} if database else {},
        "completeness": {"quiet_s": 4},
        "delivery": {"first_retry_s": 0.5, "max_retry_s": 2},
        "rules": [{"name": "head-ct", "run": ["hematoma"]}],
        "inference": {"hematoma_bundle": "hematoma-baseline", "device": "cpu"},
    }
    scanned = folder / "scanned"
    scanned.mkdir()
    small = replace(REGULAR, rows=64, columns=64)
    heads = [scan(scanned, seed=1000 + n, geometry=small) for n in range(1 + -(-kills // HEADS_EVERY))]
    with ArchivingPacs() as pacs, Serve(folder, **sections) as serve:
        serve.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        load = [Feeder(serve.dicom_port) for _ in range(feeders)]
        scanner = Scanner(serve.dicom_port)
        first_head_s = _first_head_s(serve, scanner, heads[0])
        threads = [Thread(target=feeder.run) for feeder in load]
        threads.append(Thread(target=lambda: [scanner.send_until_acknowledged(head) for head in heads[1:]]))
        for thread in threads:
            thread.start()
        try:
            readies = _kill_again_and_again(serve, kills, random.Random(seed), longest_life_s=first_head_s)
            while sum(len(feeder.acknowledged) for feeder in load) < objects:
                assert serve.alive, serve.log.read_text()[-3000:]
                Event().wait(0.2)
        finally:
            for feeder in load:
                feeder.over.set()
        for thread in threads:
            thread.join(600)
        _wait_for_results(serve, heads)
        states = {job["study_instance_uid"]: job["state"] for job in serve.get("/api/jobs")}
        serve.stop()
        return [
            Figure(what="kills", measured=kills),
            Figure(what="longest life, s", measured=first_head_s),
            Figure(what="slowest start until ready, s", measured=max(readies)),
            *_kept(serve, load, heads, scanner, objects),
            *_arrived(pacs, heads, states),
        ]


def measure_on_postgresql(folder: Path, *, kills: int, objects: int) -> list[Figure]:
    """The same with the ledger on a PostgreSQL of its own."""
    with cluster(durable=True) as server:
        return measure(folder, kills=kills, objects=objects, database=server.url(server.database()))


def _first_head_s(serve: Serve, scanner: Scanner, head: ScannedStudy) -> float:
    """From the start of a node to the results of its first head; the node is killed then."""
    began = monotonic()
    serve.start()
    scanner.send_until_acknowledged(head)
    _wait_for_results(serve, [head])
    took = monotonic() - began
    serve.kill()
    return took


def _kill_again_and_again(serve: Serve, kills: int, rng: random.Random, *, longest_life_s: float) -> list[float]:
    """How long each start took that was let finish; at the end the node runs."""
    readies = []
    for number in range(kills + 1):
        began = monotonic()
        if number < kills and rng.random() < KILLED_DURING_START:
            serve.launch()
            Event().wait(rng.uniform(0, LONGEST_START_S))
        else:
            serve.start()
            readies.append(monotonic() - began)
            Event().wait(rng.uniform(0, longest_life_s))
        if number < kills:
            assert serve.alive, serve.log.read_text()[-3000:]
            serve.kill()
    return readies


def _wait_for_results(serve: Serve, heads: Sequence[ScannedStudy]) -> None:
    wanted = {head.study_instance_uid for head in heads}
    open_states = ("ready", "analysing", "delivering")
    until = monotonic() + 120 + 20 * len(heads)
    while monotonic() < until:
        jobs = [job for job in serve.get("/api/jobs") if job["study_instance_uid"] in wanted]
        ended = {job["study_instance_uid"] for job in jobs}
        if ended == wanted and not any(job["state"] in open_states for job in jobs):
            return
        Event().wait(0.2)


def _kept(
    serve: Serve, load: Sequence[Feeder], heads: Sequence[ScannedStudy], scanner: Scanner, objects: int
) -> list[Figure]:
    rows = {uid: Path(file) for uid, file in serve.ask("SELECT sop_instance_uid, file FROM instances")}
    lost = altered = 0
    sent = [(uid.decode(), feeder, uid) for feeder in load for uid in feeder.acknowledged]
    for name, feeder, uid in sent:
        file = rows.get(name)
        lost += file is None or not file.exists()
        altered += file is not None and file.exists() and data_set_of(file.read_bytes()) != feeder.data_set(uid)
    files = {i.sop_instance_uid: i.file for head in heads for i in head.instances}
    for name in scanner.acknowledged:
        lost += name not in rows
        same = name in rows and data_set_of(rows[name].read_bytes()) == data_set_of(Path(files[name]).read_bytes())
        altered += not same
    acknowledged = len(sent) + len(scanner.acknowledged)
    return [
        Figure(what="objects acknowledged", measured=acknowledged, least=objects),
        Figure(what="acknowledged and lost", measured=lost, least=0, most=0),
        Figure(what="acknowledged and altered", measured=altered, least=0, most=0),
        Figure(what="half-written files", measured=len(list((serve.folder / "data").rglob("*.part"))), least=0, most=0),
    ]


def _arrived(pacs: ArchivingPacs, heads: Sequence[ScannedStudy], states: dict[str, str]) -> list[Figure]:
    arrived = {head.study_instance_uid: pacs.of_study(head.study_instance_uid) for head in heads}
    second = sum(max(0, len(uids) - RESULTS) for uids in arrived.values())
    other_bytes = sum(len(files) > 1 for files in pacs.files.values())
    elsewhere = len(pacs.files) - sum(map(len, arrived.values()))
    complete = sum(len(uids) >= RESULTS and states.get(study) == "done" for study, uids in arrived.items())
    return [
        Figure(what="heads with all results", measured=complete, least=len(heads), most=len(heads)),
        Figure(what="heads parked as poison", measured=sum(state == "failed" for state in states.values())),
        Figure(what="duplicate results", measured=second + other_bytes + elsewhere, least=0, most=0),
        Figure(what="results sent again, same UID and bytes", measured=len(pacs.taken) - len(pacs.files)),
    ]
