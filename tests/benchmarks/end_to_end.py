"""From the last instance acknowledged to the last result accepted by a PACS, minus quiet time and inference.

The node is `ichnode serve` as a process of its own, the PACS is DCMTK's storescp, the scanner is the fast sender; all
on loopback. Quiet time is configured; inference is what the node itself noted for each job. The first study, which
loads the model, is not measured.
"""

import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.acceptance.dcmtk import storescp
from tests.acceptance.serve import Serve
from tests.benchmarks.fast_sender import Encoded, encoded, send
from tests.benchmarks.phantom_files import phantom_study
from tests.benchmarks.table import ICHNODE, Row

TITLE = "Last instance to last result accepted, minus quiet time and inference"
QUIET_S = 1.0
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turnaround:
    """One or more studies that arrived together."""

    overhead_s: float
    infer_s: float
    steps: str


def measure(*, slices: int = 32, size: int = 512, runs: int = 5, together: int = 10) -> list[Row]:
    """Overhead of one study at a time, and of several at once."""
    seeds = count(1)
    try:
        with tempfile.TemporaryDirectory(prefix="ichnode-benchmark-") as folder, _node(Path(folder)) as node:
            _turnaround(node, [_study(slices, size, next(seeds))])
            alone = [_turnaround(node, [_study(slices, size, next(seeds))]) for _ in range(runs)]
            crowd = _turnaround(node, [_study(slices, size, next(seeds)) for _ in range(together)])
    except pytest.skip.Exception:
        return [Row(case="one study", contestant=ICHNODE, setting="storescp as PACS", value=None, unit="s")]
    overheads = [run.overhead_s for run in alone]
    setting = f"{slices} slices of {size}, quiet time {QUIET_S:g} s, storescp as PACS"
    return [
        Row(
            case=f"one study, {runs} times",
            contestant=ICHNODE,
            setting=setting,
            value=median(overheads),
            unit="s",
            goal="<= 2 s",
            note=f"slowest {max(overheads):.2f} s; {alone[-1].steps}",
        ),
        Row(
            case=f"{together} studies together",
            contestant=ICHNODE,
            setting=setting,
            value=crowd.overhead_s,
            unit="s",
            goal="<= 3 s",
            note=f"inference {crowd.infer_s:.1f} s in all, left out; {crowd.steps} of the last",
        ),
    ]


@contextmanager
def _node(folder: Path) -> Any:
    """A node that sends everything to a storescp."""
    with storescp(folder / "pacs", "PACS") as port:
        node = Serve(folder, completeness={"quiet_s": QUIET_S})
        node.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        node.start()
        try:
            yield node
        finally:
            node.stop()


def _study(slices: int, size: int, seed: int) -> list[Encoded]:
    instances = []
    for dataset in phantom_study(slices, rows=size, seed=seed):
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        instances.append(encoded(buffer.getvalue(), str(dataset.SOPInstanceUID)))
    return instances


def _turnaround(node: Serve, studies: Sequence[list[Encoded]]) -> _Turnaround:
    """Send the studies at the same time, one association each, and wait for all their jobs."""
    before = len(node.get("/api/jobs"))
    ready = threading.Barrier(len(studies))
    threads = [threading.Thread(target=send, args=(node.dicom_port, "ICHNODE", study, ready)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent_at = time.time()
    short = node.wait_for_jobs(before + len(studies), timeout_s=TIMEOUT_S)[: len(studies)]  # the newest first
    jobs = [node.get(f"/api/jobs/{job['id']}") for job in short]
    assert all(job["state"] == "done" for job in jobs), [(job["state"], job["reason"], job["detail"]) for job in jobs]
    infer_s = sum(job["seconds"]["infer"] for job in jobs)
    accepted_at = max(delivery["delivered_at"] for job in jobs for delivery in job["deliveries"])
    return _Turnaround(
        overhead_s=accepted_at - sent_at - QUIET_S - infer_s,
        infer_s=infer_s,
        steps=", ".join(f"{step} {seconds:.2f} s" for step, seconds in jobs[0]["seconds"].items()),
    )
