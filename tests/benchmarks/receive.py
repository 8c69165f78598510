"""Receiving: a fast sender in a process of its own against ichnode's receive path and four peers."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.phantom_files import phantom_files
from tests.benchmarks.receivers import AE_TITLE, ICHNODE_RECEIVER, PEERS, Receiver, cpu_seconds, running
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios

TITLE = "Receiving, TCP_NODELAY on both ends everywhere"
GOALS = {"Orthanc, fsync": ">= 1"}


def measure(
    *, slices: int = 300, size: int = 512, associations: Sequence[int] = (1, 4, 16), rounds: int = 5
) -> list[Row]:
    """Instances a second over 1, 4, 16 associations at once; every round starts every receiver anew, with no store."""
    folder = phantom_files(slices, rows=size)[0].parent
    return [row for count in associations for row in _case(folder, slices, count, rounds)]


def _case(folder: Path, slices: int, associations: int, rounds: int) -> list[Row]:
    cpu_ms: dict[str, list[float]] = {}
    contestants = {
        receiver.name: partial(_instances_per_s, receiver, folder, slices, associations, cpu_ms)
        for receiver in (ICHNODE_RECEIVER, *PEERS)
    }
    measured = alternated(contestants, rounds=rounds)
    return [
        Row(
            case=f"{slices} slices, {associations} association{'s' * (associations > 1)}",
            contestant=receiver.name,
            setting=receiver.setting,
            value=median(numbers) if (numbers := measured.get(receiver.name)) else None,
            unit="instances/s",
            ratio=None if receiver is ICHNODE_RECEIVER else ratios(measured[ICHNODE], numbers or ()),
            goal=GOALS.get(receiver.name, ""),
            note=f"CPU {median(cpu_ms[receiver.name]):.1f} ms per instance" if numbers else "",
        )
        for receiver in (ICHNODE_RECEIVER, *PEERS)
    ]


def _instances_per_s(
    receiver: Receiver, folder: Path, slices: int, associations: int, cpu_ms: dict[str, list[float]]
) -> float:
    store = Path(tempfile.mkdtemp(prefix="ichnode-benchmark-store-"))
    try:
        with running(receiver, store / "store") as (port, process):
            used = cpu_seconds(process)
            command = [sys.executable, "-m", "tests.benchmarks.fast_sender", str(port), AE_TITLE, str(folder)]
            done = subprocess.run([*command, str(associations)], capture_output=True, text=True, check=True)
            stored, seconds = done.stdout.split()
            assert int(stored) == slices, f"{receiver.name} stored {stored} of {slices}"
            cpu_ms.setdefault(receiver.name, []).append(1000 * (cpu_seconds(process) - used) / slices)
            return slices / float(seconds)
    finally:
        shutil.rmtree(store)
