"""The node under attack: `ichnode serve` as a process, and what must hold of it after every case."""

import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import psutil
import pytest

from tests.acceptance.serve import Serve
from tests.hostile import commands, pdus
from tests.hostile.data_sets import ct_image
from tests.hostile.peer import Peer, associated

ECHO_S = 2.0  # RELIABILITY.md 5.1
ECHOED: list[int | str] = ["accepted", 0x0000, "released"]
SETTLE_S = 30.0  # RELIABILITY.md 6: until threads and file descriptors are back to baseline
_OWN_FILES = {"ichnode.toml", "serve.log", "data/lock"}
_LEDGER = "data/ichnode.db"
_SPARE_THREADS, _SPARE_DESCRIPTORS = 3, 12  # a job that just runs; pooled connections to the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process holds."""

    threads: int
    descriptors: int
    rss_mb: float


class AttackedNode(Serve):
    """A node that analyses nothing, in a folder of its own that is also its working and temporary directory."""

    def __init__(self, folder: Path, **node: Any) -> None:
        rules = [{"name": "nothing", "run": ["hematoma"], "match": {"Modality": "NONE"}}]
        sections = {"completeness": {"quiet_s": 3600, "max_wait_s": 7200}, "rules": rules}
        light = {"hematoma_bundle": "hematoma-baseline", "device": "cpu"}
        super().__init__(folder, inference=light, **sections)
        self.sections["node"].update(node)

    def start(self) -> str:
        with pytest.MonkeyPatch.context() as here:
            here.chdir(self.folder)
            here.setenv("TMPDIR", str(self.folder))
            line = super().start()
        with ThreadPoolExecutor(2) as senders:
            list(senders.map(lambda _: self.assert_stores(), range(12)))  # pools and caches fill
        self.rested = self.usage()
        return line

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)

    def usage(self) -> Usage:
        process = self.process
        rss_mb = process.memory_info().rss / 1e6
        return Usage(threads=process.num_threads(), descriptors=process.num_fds(), rss_mb=rss_mb)

    def forget_peak(self) -> float:
        """Start a new measurement of the highest RSS; the RSS now, in MB."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.usage().rss_mb

    def peak_rss_mb(self) -> float:
        """The highest RSS since `forget_peak`."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000

    def limit(self, what: int, soft: int) -> None:
        """Set a soft resource limit of the running process (RLIMIT_...)."""
        pid = self.process.pid
        resource.prlimit(pid, what, (soft, resource.prlimit(pid, what)[1]))

    def file(self, sop_instance_uid: bytes) -> Path:
        """The file of a stored instance."""
        with closing(self._ledger()) as ledger:
            query = "SELECT file FROM instances WHERE sop_instance_uid = ?"
            (file,) = ledger.execute(query, (sop_instance_uid.decode(),)).fetchone()
        return Path(file)

    def stored(self, sop_instance_uid: bytes) -> bytes:
        """The data set in the file of a stored instance."""
        content = self.file(sop_instance_uid).read_bytes()
        assert content[:132] == bytes(128) + b"DICM"
        return content[144 + int.from_bytes(content[140:144], "little") :]

    def echo(self) -> list[int | str]:
        """What a new association, a C-ECHO on it and its release came to, as far as that went."""
        outcomes: list[int | str] = []
        with suppress(OSError), Peer(self.dicom_port) as peer:
            for step in (pdus.proposing(pdus.ONLY_ECHO), pdus.message(pdus.ECHO, commands.echo_rq(1)), pdus.RELEASE):
                outcomes.append(peer.send(step).answer(within_s=ECHO_S).outcome)
                if outcomes != ECHOED[: len(outcomes)]:
                    break
        return outcomes

    def echoes(self) -> bool:
        """Whether a C-ECHO on a new association succeeds."""
        return self.echo() == ECHOED

    def assert_echoes(self) -> None:
        """A C-ECHO succeeds, the first that is tried, within ECHO_S. It is released, so the next one has its place."""
        began = monotonic()
        assert self.echo() == ECHOED
        assert monotonic() - began < ECHO_S

    def holds(self, count: int) -> bool:
        """Whether so many associations, each of an address of its own, are open at the same time; all are released."""
        with ExitStack() as stack:
            peers = [stack.enter_context(Peer(self.dicom_port, address=f"127.7.0.{n + 1}")) for n in range(count)]
            accepted = [peer for peer in peers if peer.ask(pdus.associate_rq()).kind == "accepted"]
            return [peer.ask(pdus.RELEASE).kind for peer in accepted] == ["released"] * count

    def assert_stores(self) -> None:
        """A good C-STORE is answered with success."""
        image = ct_image()
        with associated(self.dicom_port) as peer:
            answer = peer.store(pdus.CT, image.uid, image.encoded())
            assert answer.outcome == 0x0000, f"the next good C-STORE: {answer}"
            assert peer.ask(pdus.RELEASE).kind == "released"

    def assert_unharmed(self) -> None:
        """It lives, answers the next peers, and nothing lies outside the store or half-written in it."""
        assert self.alive, self.log.read_text()[-3000:]
        self.assert_echoes()
        self.assert_stores()
        assert eventually(lambda: self._files_in_store() == self._files_in_ledger(), within_s=2), (
            f"on disk only: {self._files_in_store() - self._files_in_ledger()}, "
            f"in the ledger only: {self._files_in_ledger() - self._files_in_store()}"
        )
        assert self._strays() == []

    def assert_rested(self) -> None:
        """Threads and file descriptors are back to what they were before the first attack."""
        rested = self.rested
        assert eventually(
            lambda: (
                self.usage().threads <= rested.threads + _SPARE_THREADS
                and self.usage().descriptors <= rested.descriptors + _SPARE_DESCRIPTORS
            ),
            within_s=SETTLE_S,
        ), f"{self.usage()}, but at rest {rested}"

    def _files_in_store(self) -> set[str]:
        return {str(file) for file in (self.folder / "data" / "instances").rglob("*") if not file.is_dir()}

    def _files_in_ledger(self) -> set[str]:
        with closing(self._ledger()) as ledger:
            return {
                file for (file,) in ledger.execute("SELECT file FROM instances UNION ALL SELECT file FROM conflicts")
            }

    def _strays(self) -> list[str]:
        """Files of this folder that are neither the store's nor the node's own."""
        files = (str(f.relative_to(self.folder)) for f in self.folder.rglob("*") if f.is_file())
        return [
            f for f in files if f not in _OWN_FILES and not f.startswith((_LEDGER, "data/instances/")) and f != "filler"
        ]

    def _ledger(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder / _LEDGER}?mode=ro", uri=True, timeout=10)


def eventually(condition, *, within_s: float) -> bool:
    """Whether the condition comes true in time."""
    deadline = monotonic() + within_s
    while not condition():
        if monotonic() > deadline:
            return False
        Event().wait(0.05)
    return True
