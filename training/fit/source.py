"""Numbered batches, and the processes that make them ahead of the training."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """A base: each system has a dataclass of its own, all of whose fields are tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def to(self, device: str) -> Self:
        """The same on another device."""
        return type(self)(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


B = TypeVar("B", bound=Batch)
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class Source(Protocol[B_co]):
    """The same number gives the same batch, in every process and run. To be made ahead it must be picklable."""

    def batch(self, number: int) -> B_co:
        """The batch of that number, from 0."""


@contextmanager
def batches(source: Source[B], numbers: range, *, makers: int, ahead: int) -> Iterator[Iterator[B]]:
    """The batches of `numbers`, in order. What goes wrong in a maker is raised here, with its traceback."""
    if not makers:
        yield map(source.batch, numbers)
        return
    pool = ProcessPoolExecutor(makers, multiprocessing.get_context("spawn"), _become_maker, (source,))
    try:
        yield _made_ahead(pool, numbers, ahead)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _made_ahead(pool: ProcessPoolExecutor, numbers: range, ahead: int) -> Iterator[Any]:
    with _interrupts_blocked():
        waiting = deque(pool.submit(_make, number) for number in numbers[:ahead])
    for number in numbers:
        kind, arrays = waiting.popleft().result()
        if number + ahead * numbers.step < numbers.stop:
            waiting.append(pool.submit(_make, number + ahead * numbers.step))
        yield kind(**{name: torch.from_numpy(array) for name, array in arrays.items()})


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Makers that start inside inherit the block: Ctrl-C reaches the training alone, which saves before it ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_make_batch: Callable[[int], Batch]  # of this maker


def _become_maker(source: Source[Batch]) -> None:
    global _make_batch
    _make_batch = source.batch
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _make(number: int) -> tuple[type[Batch], Arrays]:
    """As arrays: each tensor would take a file descriptor."""
    batch = _make_batch(number)
    return type(batch), {name: tensor.numpy() for name, tensor in batch.tensors().items()}


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
