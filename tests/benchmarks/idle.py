"""What an association costs that is open and says nothing: a scanner keeps its own for minutes."""

import shutil
import socket
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.fast_sender import open_association
from tests.benchmarks.receivers import AE_TITLE, ICHNODE_RECEIVER, PEERS, Receiver, cpu_seconds, running
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios

TITLE = "Idle associations"
ASSOCIATIONS = 4  # Orthanc serves no more at once, unless told
_TICK_S = 0.01  # CPU time is counted in


def measure(*, seconds: float = 20, rounds: int = 3) -> list[Row]:
    """Percent of a core for each, what the receiver does beside them included."""
    contestants = {
        receiver.name: partial(_percent_of_a_core, receiver, seconds) for receiver in (ICHNODE_RECEIVER, *PEERS)
    }
    measured = alternated(contestants, rounds=rounds)
    least = 100 * _TICK_S / seconds / ASSOCIATIONS
    return [
        Row(
            case=f"{ASSOCIATIONS} associations, silent for {seconds:g} s",
            contestant=receiver.name,
            setting=receiver.setting,
            value=median(numbers) if (numbers := measured.get(receiver.name)) else None,
            unit="% of a core each",
            ratio=None if receiver is ICHNODE_RECEIVER else ratios(measured[ICHNODE], numbers or ()),
            goal="< 0.5" if receiver is ICHNODE_RECEIVER else "",
            note=f"less than {least:.2g} cannot be told",
        )
        for receiver in (ICHNODE_RECEIVER, *PEERS)
    ]


def _percent_of_a_core(receiver: Receiver, seconds: float) -> float:
    store = Path(tempfile.mkdtemp(prefix="ichnode-benchmark-idle-"))
    try:
        with running(receiver, store / "store") as (port, process), ExitStack() as open_ones:
            for _ in range(ASSOCIATIONS):
                peer = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                open_association(peer, AE_TITLE)
            processes = [process, *process.children(recursive=True)]
            before = sum(map(cpu_seconds, processes))
            time.sleep(seconds)
            used = sum(map(cpu_seconds, processes)) - before
        return 100 * max(used, _TICK_S) / seconds / ASSOCIATIONS
    finally:
        shutil.rmtree(store)
