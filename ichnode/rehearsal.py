"""Rehearsal: a made-up patient's head CT goes through a node of its own and back, all over real DICOM sockets.

The node listens on the loopback address, keeps everything below a folder that is removed, and delivers to a storage
SCP that this module runs: no PACS, no ledger and no running node has to do with it. `demo` and `selftest` use it.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydicom import dcmread

from ichnode.config import Settings
from ichnode.dicom.receiver import InMemory, StoreRequest
from ichnode.dicom.scp import StorageSCP
from ichnode.dicom.scu import Outcome, Outgoing, Peer, send
from ichnode.domain.job import Job, JobState
from ichnode.domain.progress import Tell, silently
from ichnode.node import Node
from ichnode.phantom import Phantom
from ichnode.storage.history import ResultFile

TIMEOUT_S = 120.0
_DOING = {
    JobState.READY: "loading models",
    JobState.ANALYSING: "analysing",
    JobState.DELIVERING: "delivering the results",
}
_ENDED = {JobState.DONE, JobState.FAILED, JobState.REFUSED, JobState.IGNORED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What came of it."""

    outcomes: tuple[Outcome, ...]  # of each instance that was sent
    job: Job | None  # as it ended, or as it was after the time limit
    results: tuple[ResultFile, ...]  # that the node composed
    series: Mapping[str, Sequence[Path]]  # files of each series that came back, by its description
    seconds: tuple[tuple[str, float], ...]  # step and how long it took
    page: str  # where its review is while the node runs


@dataclass(slots=True)
class Archive:
    """The storage SCP that stands for the PACS: writes what it receives."""

    folder: Path
    count: int = 0
    series: dict[str, list[Path]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def association_opened(self, *, calling_ae_title: str, peer: str) -> int:
        """Any will do."""
        return 1

    def association_closed(self, association_id: int, *, ending: str) -> None:
        """Nobody asks."""

    def begin(self, request: StoreRequest) -> InMemory:
        """An object follows."""
        return InMemory(request, self._take)

    def _take(self, content: bytes) -> None:
        """Keep the object under its series description."""
        description = str(dcmread(BytesIO(content), stop_before_pixels=True).SeriesDescription)
        name = "".join(c if c.isalnum() else "-" for c in description.removeprefix("AI RESEARCH: ").lower())
        with self.lock:
            self.count += 1
            file = self.folder / f"{self.count:03d}-{name}.dcm"
            file.write_bytes(content)
            self.series.setdefault(description, []).append(file)


@contextmanager
def rehearse(
    patient: Phantom,
    sections: Mapping[str, Any],
    *,
    source: Path,
    received: Path,
    calling_ae_title: str = "SCANNER",
    timeout_s: float = TIMEOUT_S,
    tell: Tell = silently,
) -> Iterator[Rehearsal]:
    """Send `patient` (kept in the folder `source`) through a node configured by `sections`; results go to `received`.

    The node runs on until the end of the `with`.

    What must not be the site's own stands above `sections`: addresses, ports, data_dir, destinations. Raises
    ConfigError, InferenceError and OSError when the node cannot run.
    """
    tell("starting a node")
    outgoing = _write(patient, source)
    archive = Archive(received)
    with TemporaryDirectory(prefix="ichnode-") as data_dir, _running(archive, sections, Path(data_dir)) as node:
        peer = Peer(ae_title=node.ae_title, host="127.0.0.1", port=node.dicom_port)
        began = time.perf_counter()
        outcomes = []
        for known in send(peer, outgoing, calling_ae_title=calling_ae_title):
            outcomes += known
            tell("sending slices", len(outcomes), len(outgoing))
        sent_s = time.perf_counter() - began
        job = _wait_for_job(node, timeout_s, tell)
        waited_s = time.perf_counter() - began - sent_s
        steps = node.history.seconds(job.id) if job else {}
        results = tuple(node.history.results(job.id)) if job else ()
        page = f"studies/{job.study_instance_uid}/jobs/{job.id}" if job else ""
        yield Rehearsal(
            outcomes=tuple(outcomes),
            job=job,
            results=results,
            series=archive.series,
            seconds=(("send the head CT", sent_s), *steps.items(), ("last image to last result", waited_s)),
            page=f"http://127.0.0.1:{node.web_port}/{page}",
        )


@contextmanager
def _running(archive: Archive, sections: Mapping[str, Any], data_dir: Path) -> Iterator[Node]:
    """A node that delivers to `archive`, both listening on ports that the system chooses."""
    pacs = StorageSCP(archive, ae_title="PACS", host="127.0.0.1", port=0, max_associations=8)
    pacs.start()
    try:
        own = {"host": "127.0.0.1", "port": 0, "data_dir": data_dir, "reserve_mb": 50, "soft_reserve_mb": 50}
        apart: dict[str, Any] = {
            "node": {**sections.get("node", {}), **own},
            "completeness": {"quiet_s": 1},
            "web": {**sections.get("web", {}), "port": 0},
            "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}],
        }
        node = Node(Settings.model_validate({**sections, **apart}))
        node.start()
        try:
            yield node
        finally:
            node.stop()
    finally:
        pacs.stop()


def _write(patient: Phantom, folder: Path) -> list[Outgoing]:
    outgoing = []
    for number, dataset in enumerate(patient.datasets, 1):
        file = folder / f"{number:03d}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        outgoing.append(
            Outgoing(sop_class_uid=dataset.SOPClassUID, sop_instance_uid=dataset.SOPInstanceUID, file=str(file))
        )
    return outgoing


def _wait_for_job(node: Node, timeout_s: float, tell: Tell) -> Job | None:
    """The one job once it has ended, or as it is after the time limit; None when there is none."""
    deadline = time.monotonic() + timeout_s
    while True:
        job = next(iter(node.history.list_jobs()), None)
        if (job and job.state in _ENDED) or time.monotonic() > deadline:
            return job
        tell(_DOING.get(job.state, job.state.value) if job else "waiting for the study to be complete")
        time.sleep(0.02)
