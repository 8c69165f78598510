"""Numbered batches, and a process that makes them ahead of the training."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Heads and their truth."""

    hu_bdhw: Tensor  # float32
    labels_bdhw: Tensor  # uint8: 0 none, 1-5 types, 255 unknown


class Source(Protocol):
    """The same number gives the same batch, in every process and run. To be made ahead it must be picklable."""

    def batch(self, number: int) -> Batch:
        """The batch of that number, from 0."""


@contextmanager
def batches(source: Source, numbers: range, *, makers: int, ahead: int) -> Iterator[Iterator[Batch]]:
    """The batches of `numbers`, in order. What goes wrong in a maker is raised here, with its traceback."""
    if not makers:
        yield map(source.batch, numbers)
        return
    pool = ProcessPoolExecutor(makers, multiprocessing.get_context("spawn"), _become_maker, (source,))
    try:
        yield _made_ahead(pool, numbers, ahead)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _made_ahead(pool: ProcessPoolExecutor, numbers: range, ahead: int) -> Iterator[Batch]:
    with _interrupts_blocked():
        waiting = deque(pool.submit(_make, number) for number in numbers[:ahead])
    for number in numbers:
        hu_bdhw, labels_bdhw = waiting.popleft().result()
        if number + ahead * numbers.step < numbers.stop:
            waiting.append(pool.submit(_make, number + ahead * numbers.step))
        yield Batch(hu_bdhw=torch.from_numpy(hu_bdhw), labels_bdhw=torch.from_numpy(labels_bdhw))


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Makers that start inside inherit the block: Ctrl-C reaches the training alone, which saves before it ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_make_batch: Callable[[int], Batch]  # of this maker


def _become_maker(source: Source) -> None:
    global _make_batch
    _make_batch = source.batch
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _make(number: int) -> Arrays:
    batch = _make_batch(number)
    return batch.hu_bdhw.numpy(), batch.labels_bdhw.numpy()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
