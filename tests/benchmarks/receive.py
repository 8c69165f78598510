"""Receiving: a fast sender in a process of its own against ichnode's receive path and four peers.

Beside them what the disk alone can do: who promises that an instance is durable cannot be faster (docs/decisions, 150).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.phantom_files import phantom_files
from tests.benchmarks.receivers import AE_TITLE, ICHNODE_RECEIVER, PEERS, Receiver, cpu_seconds, running
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios

TITLE = "Receiving, TCP_NODELAY on both ends everywhere"
GOALS = {"Orthanc, fsync": ">= 1"}
DISK = "the disk alone"
DISK_SETTING = "the same bytes, fsync of file and folder; nothing received, hashed or committed"


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
    measured = alternated(contestants | {DISK: partial(_flushed_per_s, folder, associations)}, rounds=rounds)
    case = f"{slices} slices, {associations} association{'s' * (associations > 1)}"
    return [
        Row(
            case=case,
            contestant=receiver.name,
            setting=receiver.setting,
            value=median(numbers) if (numbers := measured.get(receiver.name)) else None,
            unit="instances/s",
            ratio=None if receiver is ICHNODE_RECEIVER else ratios(measured[ICHNODE], numbers or ()),
            goal=GOALS.get(receiver.name, ""),
            note=f"CPU {median(cpu_ms[receiver.name]):.1f} ms per instance" if numbers else "",
        )
        for receiver in (ICHNODE_RECEIVER, *PEERS)
    ] + [
        Row(
            case=case,
            contestant=DISK,
            setting=DISK_SETTING,
            value=median(measured[DISK]),
            unit="instances/s",
            ratio=ratios(measured[ICHNODE], measured[DISK]),
        )
    ]


def _flushed_per_s(folder: Path, threads: int) -> float:
    """Every file of `folder` written anew and flushed, by as many threads as there would be associations."""
    contents = [file.read_bytes() for file in sorted(folder.iterdir())]
    with tempfile.TemporaryDirectory(prefix="ichnode-benchmark-disk-") as store, ThreadPoolExecutor(threads) as pool:
        names = os.open(store, os.O_RDONLY)

        def keep(number: int) -> None:
            with (Path(store) / str(number)).open("xb", buffering=0) as file:
                file.write(contents[number])
                os.fsync(file.fileno())
            os.fsync(names)

        began = time.perf_counter()
        list(pool.map(keep, range(len(contents))))
        took = time.perf_counter() - began
        os.close(names)
    return len(contents) / took


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
