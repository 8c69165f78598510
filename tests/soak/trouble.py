"""A disk that fills up, a ledger that another process locks, a clock that is set, again and again: each is got over.

What is refused is sent again, so nothing is lost; and each time it is soon well again without anybody's help.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

from ichnode.config import Settings
from ichnode.node import Node
from ichnode.phantom import REGULAR
from tests.acceptance.scanner import Scanner, scan
from tests.hostile import pdus
from tests.hostile.data_sets import PIXELS, Image, ct_image
from tests.hostile.node import AttackedNode, eventually
from tests.hostile.peer import Peer
from tests.pacs import ArchivingPacs
from tests.small_disk import SmallDisk
from tests.soak.figures import Figure
from tests.soak.kills import RESULTS

TITLE = "full disks, locked ledgers, clocks that are set"
STORED, NO_ROOM = 0x0000, 0xA700
RECOVERED_S = 5.0
STEPS_S = (400 * 86_400.0, -2 * 86_400.0)


def measure(folder: Path, *, times: int) -> list[Figure]:
    """Each kind of trouble so many times."""
    figures = []
    for kind, trouble in (("full disk", _full_disks), ("locked ledger", _locked_ledgers), ("clock step", _set_clocks)):
        below = folder / kind.replace(" ", "_")
        below.mkdir()
        figures += [replace(figure, what=f"{kind}: {figure.what}") for figure in trouble(below, times)]
    return figures


class _Sender:
    """Sends over one association and remembers what was acknowledged."""

    def __init__(self, node: AttackedNode, peer: Peer) -> None:
        self._node, self._peer = node, peer
        self.acknowledged: list[Image] = []

    def store(self, image: Image) -> int | str:
        outcome = self._peer.store(pdus.CT, image.uid, image.encoded()).outcome
        if outcome == STORED:
            self.acknowledged.append(image)
        return outcome

    def lost(self) -> int:
        return sum(self._node.stored(image.uid) != image.encoded() for image in self.acknowledged)


@contextmanager
def _attacked(folder: Path) -> Iterator[tuple[AttackedNode, _Sender]]:
    with AttackedNode(folder) as node:
        node.start()
        with Peer(node.dicom_port) as peer:
            yield node, _Sender(node, peer.associate())


def _figures(*, refused: int, times: int, sender: _Sender, recovered_s: list[float]) -> list[Figure]:
    return [
        Figure(what="refused as it should be", measured=refused, least=times, most=times),
        Figure(what="acknowledged and lost", measured=sender.lost(), least=0, most=0),
        Figure(what="slowest recovery, s", measured=max(recovered_s), most=RECOVERED_S),
    ]


def _full_disks(folder: Path, times: int) -> list[Figure]:
    disk = SmallDisk(folder, "size=32m")
    try:
        with _attacked(folder) as (_, sender):
            refused, recovered_s = 0, []
            for number in range(times):
                image = ct_image().but({PIXELS: (b"OW", bytes(100_000))})
                disk.fill(leave_bytes=4096 * (number % 4))
                refused += sender.store(image) == NO_ROOM
                disk.clear()
                recovered_s.append(_recovered_s(sender, image))
            return _figures(refused=refused, times=times, sender=sender, recovered_s=recovered_s)
    finally:
        disk.unmount()


def _locked_ledgers(folder: Path, times: int) -> list[Figure]:
    with _attacked(folder) as (node, sender):
        refused, recovered_s = 0, []
        for _ in range(times):
            image = ct_image()
            with closing(sqlite3.connect(node.folder / "data" / "ichnode.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                refused += sender.store(image) == NO_ROOM
                other.execute("ROLLBACK")
            recovered_s.append(_recovered_s(sender, image))
        return _figures(refused=refused, times=times, sender=sender, recovered_s=recovered_s)


def _recovered_s(sender: _Sender, image: Image) -> float:
    """Until what was refused is taken."""
    began = monotonic()
    return monotonic() - began if eventually(lambda: sender.store(image) == STORED, within_s=30) else float("inf")


def _set_clocks(folder: Path, times: int) -> list[Figure]:
    """Ahead and back while a study comes in over one association, which must not notice."""
    offset_s = [0.0]
    with ArchivingPacs() as pacs:
        node = Node(_settings(folder, pacs.port), clock=lambda: time.time() + offset_s[0])
        node.start()
        try:
            study = scan(folder, seed=400, geometry=replace(REGULAR, rows=64, columns=64))
            scanner = Scanner(node.dicom_port)
            for number in range(times):
                scanner.send(replace(study, instances=study.instances[: number + 1]))
                offset_s[0] += STEPS_S[number % 2]
            scanner.send(study)
            began = monotonic()
            arrived = eventually(lambda: len(pacs.of_study(study.study_instance_uid)) == RESULTS, within_s=60)
            took_s = monotonic() - began if arrived else float("inf")
            jobs = node.history.list_jobs()
        finally:
            node.stop()
    return [
        Figure(what="instances acknowledged", measured=len(scanner.acknowledged), least=len(study.instances)),
        Figure(what="jobs of the study", measured=len(jobs), least=1, most=1),
        Figure(what="until all results arrived, s", measured=took_s, most=60),
    ]


def _settings(folder: Path, pacs_port: int) -> Settings:
    return Settings.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder / "data", "reserve_mb": 0},
            "completeness": {"quiet_s": 3},
            "rules": [{"name": "head-ct", "run": ["hematoma"]}],
            "inference": {"hematoma_bundle": "hematoma-baseline", "device": "cpu"},
            "web": {"port": 0},
            "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port}],
        }
    )
