"""Many senders at the same time: all is stored, nobody waits in vain, an echo still gets through."""

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from tests.benchmarks.fast_sender import Encoded, send
from tests.hostile.data_sets import PIXELS, SERIES, STUDY, ct_image, new_uid
from tests.hostile.node import AttackedNode
from tests.soak.figures import Figure
from tests.soak.kills import COLUMNS, ROWS, SIZE

TITLE = "many senders at once"
ANSWER_S = 30.0


def measure(folder: Path, *, senders: int, each: int) -> list[Figure]:
    """So many senders with so many objects of 128 x 128 each."""
    with AttackedNode(folder, max_associations=senders + 16) as node:
        node.start()
        node.forget_peak()
        loads = [_series(each) for _ in range(senders)]
        ready, over = threading.Barrier(senders + 1), threading.Event()
        stored, timed_out, failed, echoes = [0] * senders, [0], [0], []

        def run(number: int) -> None:
            try:
                stored[number] = send(node.dicom_port, "ICHNODE", loads[number], ready, timeout_s=ANSWER_S)
            except TimeoutError:
                timed_out[0] += 1
            except (OSError, AssertionError, threading.BrokenBarrierError):
                failed[0] += 1
                ready.abort()

        def echo() -> None:
            while not over.wait(0.25):
                echoes.append(node.echoes())

        threads = [threading.Thread(target=run, args=(number,)) for number in range(senders)]
        for thread in threads:
            thread.start()
        with suppress(threading.BrokenBarrierError):
            ready.wait(60)
        began = monotonic()
        echoing = threading.Thread(target=echo)
        echoing.start()
        for thread in threads:
            thread.join()
        seconds = monotonic() - began
        over.set()
        echoing.join()
        peak_mb = node.peak_rss_mb()
        lost = _lost(node, loads, stored)
        node.assert_unharmed()
    wanted = senders * each
    return [
        Figure(what="objects acknowledged", measured=sum(stored), least=wanted, most=wanted),
        Figure(what="acknowledged and lost or altered", measured=lost, least=0, most=0),
        Figure(what="senders whose answer took too long", measured=timed_out[0], least=0, most=0),
        Figure(what="senders turned away or cut off", measured=failed[0], least=0, most=0),
        Figure(what="echoes tried", measured=len(echoes)),
        Figure(what="... that succeeded, %", measured=100 * sum(echoes) / max(1, len(echoes)), least=95),
        Figure(what="highest RSS, MB", measured=peak_mb, most=300),
        Figure(what="instances/s", measured=sum(stored) / seconds),
    ]


def _series(count: int) -> list[Encoded]:
    study, series = new_uid(), new_uid()
    made = []
    for _ in range(count):
        uid = new_uid()
        pixels = hashlib.shake_128(uid).digest(SIZE * SIZE * 2)
        changes = {STUDY: (b"UI", study), SERIES: (b"UI", series), ROWS: (b"US", SIZE), COLUMNS: (b"US", SIZE)}
        made.append(Encoded(uid, ct_image(uid).but(changes | {PIXELS: (b"OW", pixels)}).encoded()))
    return made


def _lost(node: AttackedNode, loads: Sequence[Sequence[Encoded]], stored: Sequence[int]) -> int:
    """Of each sender, which has its answers in order, so many of the first are acknowledged."""
    acknowledged = [one for load, count in zip(loads, stored, strict=True) for one in load[:count]]
    return sum(node.stored(one.sop_instance_uid) != one.dataset for one in acknowledged)
