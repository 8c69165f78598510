"""Worker: a supervised child process with a deadline and a memory limit. It knows nothing of models.

A crash, a hang or an exhausted memory in native code must not take the node with it, so the work runs in a child that
the parent may kill at any time and that dies with the parent. A child that failed is replaced at the next request.
"""

import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar, cast

from ichnode import logs
from ichnode.errors import IchnodeError, InferenceError

Request = TypeVar("Request")
Answer = TypeVar("Answer")

_STOP_TIMEOUT_S = 2.0


class Worker(Generic[Request, Answer]):
    """One child process that serves one request at a time.

    `setup` runs once in the child and returns the function that answers requests; it, the requests and the answers are
    pickled. Methods may be called from several threads.
    """

    def __init__(
        self,
        setup: Callable[[], Callable[[Request], Answer]],
        *,
        memory_limit_bytes: int | None,
        start_timeout_s: float,
    ) -> None:
        self._setup = setup
        self._memory_limit_bytes = memory_limit_bytes  # of anonymous memory (RLIMIT_DATA); None: not limited
        self._start_timeout_s = start_timeout_s
        self._lock = threading.Lock()
        self._child: tuple[SpawnProcess, Connection] | None = None

    @property
    def alive(self) -> bool:
        """Whether a child is there and ready."""
        child = self._child
        return child is not None and child[0].is_alive()

    def start(self) -> None:
        """Start the child and wait until `setup` has returned. Raises what `run` raises."""
        with self._lock:
            self._ensure_started()

    def run(self, request: Request, deadline_s: float) -> Answer:
        """The child's answer.

        Raises InferenceError with the reason "deadline", "crash", "memory" or "error", and every IchnodeError that the
        child raised as itself. After the first three the child is gone; the next request starts another.
        """
        with self._lock:
            self._ensure_started()
            return cast(Answer, self._exchange(request, deadline_s))

    def kill(self) -> None:
        """End the child at once, also while `run` waits for it in another thread, which then raises "crash"."""
        child = self._child
        if child is not None:
            child[0].kill()

    def stop(self) -> None:
        """End the child: by closing its pipe, then by force."""
        with self._lock:
            if self._child is not None:
                self._child[1].close()
                self._child[0].join(_STOP_TIMEOUT_S)
                self._discard()

    def _ensure_started(self) -> None:
        if self.alive:
            return
        self._discard()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, pickle.dumps(self._setup), self._memory_limit_bytes)
        process = context.Process(target=_serve, args=arguments, name="ichnode-worker")
        with _terminal_signals_blocked():
            process.start()
        theirs.close()
        self._child = process, ours
        try:
            self._exchange(None, self._start_timeout_s)
        except IchnodeError:
            self._discard()
            raise

    def _exchange(self, message: object, deadline_s: float) -> object:
        """Send, and wait for the answer; a timer kills the child at the deadline, wherever it then is."""
        assert self._child is not None
        process, pipe = self._child
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(deadline_s, expire)
        timer.start()
        try:
            pipe.send(message)
            kind, payload = pipe.recv()
        except (EOFError, OSError):
            process.join()
            self._discard()
            if expired.is_set():
                raise InferenceError(
                    "deadline", f"no answer within {deadline_s:g} s ([inference] deadline_s); the process was killed"
                ) from None
            raise InferenceError("crash", f"the process {_ending(process.exitcode)}") from None
        finally:
            timer.cancel()
        if kind == "memory" or expired.is_set():
            self._discard()
        return _opened(kind, payload)

    def _discard(self) -> None:
        if self._child is not None:
            process, pipe = self._child
            self._child = None
            pipe.close()
            process.kill()
            process.join()


def _opened(kind: str, payload: Any) -> object:
    if kind == "answer":
        return payload
    if kind == "raised":
        error_type, arguments, attributes, trace = payload
        error: IchnodeError = error_type.__new__(error_type)
        error.args = arguments
        error.__dict__.update(attributes)
        error.add_note(trace)
        raise error
    detail, errno = payload
    raise InferenceError(kind, detail, errno=errno)


def _ending(exit_code: int | None) -> str:
    """How a process ended, in words."""
    if exit_code is None or exit_code >= 0:
        return f"ended by itself with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"was killed ({name}), probably out of memory" if name == "SIGKILL" else f"crashed ({name})"


@contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """A process started inside inherits the block: Ctrl-C and a service stop reach the parent alone, which decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, pickled_setup: bytes, memory_limit_bytes: int | None) -> None:
    """The child's life: the first message asks for `setup`, each later one is a request, a closed pipe is the end."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logs.set_up()  # its standard error is the parent's log
    if memory_limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
    answer: Callable[[Any], Any] | None = None
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            if answer is None:
                answer, reply = pickle.loads(pickled_setup)(), None
            else:
                reply = answer(request)
            pipe.send(("answer", reply))
        except Exception as error:
            pipe.send(_packed(error))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _packed(error: Exception) -> tuple[str, object]:
    trace = traceback.format_exc()
    if isinstance(error, IchnodeError):
        return "raised", (type(error), error.args, error.__dict__, trace)
    if _is_out_of_memory(error):
        return "memory", (f"{type(error).__name__}: {error}", None)
    errno = error.errno if isinstance(error, OSError) else None
    return "error", (f"{type(error).__name__}: {error}\n{trace}", errno)


def _is_out_of_memory(error: Exception) -> bool:
    """Python and NumPy raise MemoryError, torch and SimpleITK their own types and words."""
    words = ("can't allocate memory", "bad_alloc", "Failed to allocate memory", "out of memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))
    )
