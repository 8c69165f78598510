"""`ichnode demo`: a node on embedded defaults, the simulated patient sent to it, the results received.

Everything travels over real DICOM sockets on the loopback address: the head CT by C-STORE to the node, the results by
C-STORE to a storage SCP that this module runs and that writes them to a folder.
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
from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.dicom.statuses import Verdict
from ichnode.domain.job import JobState
from ichnode.node import Node
from ichnode.phantom import Phantom
from ichnode.results.provenance import SERIES_DESCRIPTIONS, Role
from ichnode.simulated_patient import simulated_patient

TOLERANCE = 0.15  # of the volume found in the simulated patient
TIMEOUT_S = 120.0
_NOT_RUN = (Role.FOLLOWUP_SALIENCY,)
_EXPECTED = {SERIES_DESCRIPTIONS[role] for role in Role if role not in _NOT_RUN}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """What the demo shows. It passed when there are no misses."""

    folder: Path  # of the results
    true_ml: float
    found_ml: float | None
    range_ml: tuple[float, float] | None
    series: Mapping[str, Sequence[Path]]  # files of each series received, by its description
    seconds: tuple[tuple[str, float], ...]  # step and how long it took
    misses: tuple[str, ...]


@dataclass(slots=True)
class _Archive:
    """The storage SCP that stands for the PACS: writes what it receives."""

    folder: Path
    count: int = 0
    series: dict[str, list[Path]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def association_opened(self, *, calling_ae_title: str, peer: str) -> int:
        return 1

    def association_closed(self, association_id: int, *, ending: str) -> None:
        pass

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


def run_demo(folder: Path) -> DemoOutcome:
    """Run the demo; results are written below `folder`."""
    source, received = folder / "head-ct", folder / "results"
    for made in (source, received):
        made.mkdir(parents=True, exist_ok=True)
        for old in made.glob("*.dcm"):
            old.unlink()
    patient = simulated_patient()
    outgoing = _write(patient, source)
    archive = _Archive(received)
    with TemporaryDirectory(prefix="ichnode-demo-") as data_dir, _running(archive, Path(data_dir)) as node:
        began = time.perf_counter()
        statuses = list(send(_loopback("ICHNODE", node.dicom_port), outgoing, calling_ae_title="SCANNER"))
        sent_s = time.perf_counter() - began
        job = _wait_for_job(node)
        waited_s = time.perf_counter() - began - sent_s
        steps = node.history.seconds(job.id) if job else {}
    misses = [f"{len(statuses)} instances sent, not all were taken"] * any(
        s.verdict is not Verdict.DELIVERED for s in statuses
    )
    misses += _misses(job, archive, patient.hematoma_ml)
    hematoma = (job.findings or {}).get("hematoma") if job else None
    return DemoOutcome(
        folder=received,
        true_ml=patient.hematoma_ml,
        found_ml=hematoma["volume_ml"] if hematoma else None,
        range_ml=(hematoma["volume_low_ml"], hematoma["volume_high_ml"]) if hematoma else None,
        series=archive.series,
        seconds=(("send the head CT", sent_s), *steps.items(), ("last image to last result", waited_s)),
        misses=tuple(misses),
    )


@contextmanager
def _running(archive: _Archive, data_dir: Path) -> Iterator[Node]:
    """A node that delivers to `archive`, both listening on ports that the system chooses."""
    pacs = StorageSCP(archive, ae_title="PACS", host="127.0.0.1", port=0, max_associations=8)
    pacs.start()
    settings = Settings.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": data_dir, "reserve_mb": 50},
            "completeness": {"quiet_s": 1},
            "web": {"port": 0},
            "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}],
        }
    )
    node = Node(settings)
    node.start()
    try:
        yield node
    finally:
        node.stop()
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


def _loopback(ae_title: str, port: int) -> Peer:
    return Peer(ae_title=ae_title, host="127.0.0.1", port=port)


def _wait_for_job(node: Node) -> Any:
    """The demo's one job once it has ended, or as it is after the time limit; None when there is none."""
    deadline = time.monotonic() + TIMEOUT_S
    ended = {JobState.DONE, JobState.FAILED, JobState.REFUSED, JobState.IGNORED}
    while True:
        job = next(iter(node.history.list_jobs()), None)
        if (job and job.state in ended) or time.monotonic() > deadline:
            return job
        time.sleep(0.02)


def _misses(job: Any, archive: _Archive, true_ml: float) -> list[str]:
    if job is None:
        return ["no job was opened"]
    if job.state is not JobState.DONE:
        return [f"the job is {job.state}: {job.reason}: {job.detail}"]
    hematoma = job.findings["hematoma"]
    if hematoma is None:
        return ["the hematoma was not found"]
    error = abs(hematoma["volume_ml"] - true_ml) / true_ml
    misses = [f"the volume is {error:.0%} off"] if error > TOLERANCE else []
    if absent := sorted(_EXPECTED - set(archive.series)):
        misses.append(f"not received: {', '.join(absent)}")
    return misses
