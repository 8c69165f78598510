import errno
import os
import re
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ichnode.domain.reasons import Reason
from ichnode.errors import BundleError, DeliveryError, InferenceError, RefusedSeries
from ichnode.inference.worker import Worker

PATIENT_S = 60.0  # far beyond what a healthy child needs on a busy machine
LIMIT_BYTES = 768 << 20


def answering() -> Callable[[str], object]:
    calls = 0

    def answer(request: str) -> object:
        nonlocal calls
        calls += 1
        return {"calls": lambda: calls, "pid": os.getpid, "function": lambda: lambda: 0, **DISASTERS}[request]()

    return answer


def hang() -> None:
    threading.Event().wait()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(3)


def allocate() -> int:
    return np.zeros(LIMIT_BYTES + 1, np.uint8).nbytes


def torch_out_of_memory() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")


def divide() -> float:
    return 1 / 0


def read_badly() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def refuse() -> None:
    raise RefusedSeries(Reason.NO_BRAIN, "12 mL")


def fail_delivery() -> None:
    raise DeliveryError(0xA700, "full", permanent=False)


def speak() -> None:
    print("said by the child")


def warn() -> None:
    warnings.warn("Unknown encoding 'DOE^JANE'", stacklevel=1)


DISASTERS: dict[str, Callable[[], object]] = {
    f.__name__: f
    for f in (
        hang,
        crash,
        be_killed,
        leave,
        allocate,
        torch_out_of_memory,
        divide,
        read_badly,
        refuse,
        fail_delivery,
        speak,
        warn,
    )
}


def failing_setup() -> Callable[[str], object]:
    raise BundleError("the weights were altered")


def hanging_setup() -> Callable[[str], object]:
    hang()
    return answering()


def crashing_setup(marker: Path) -> Callable[[str], object]:
    """Crashes the first time."""
    if not marker.exists():
        marker.touch()
        crash()
    return answering()


@pytest.fixture
def worker() -> Iterator[Worker[str, object]]:
    worker = Worker(answering, memory_limit_bytes=LIMIT_BYTES, start_timeout_s=PATIENT_S)
    yield worker
    worker.stop()


def refused(worker: Worker[str, object], request: str, deadline_s: float = PATIENT_S) -> InferenceError:
    with pytest.raises(InferenceError) as error:
        worker.run(request, deadline_s)
    return error.value


def test_setup_runs_once_and_the_child_keeps_its_state(worker: Worker[str, object]) -> None:
    assert [worker.run("calls", PATIENT_S) for _ in range(3)] == [1, 2, 3]


def test_the_work_runs_in_another_process(worker: Worker[str, object]) -> None:
    worker.start()
    assert worker.alive
    assert worker.run("pid", PATIENT_S) != os.getpid()


def test_a_hang_ends_at_the_deadline_and_the_next_request_is_answered(worker: Worker[str, object]) -> None:
    first = worker.run("pid", PATIENT_S)
    assert refused(worker, "hang", deadline_s=0.3).reason == "deadline"
    assert not worker.alive
    assert worker.run("pid", PATIENT_S) != first


@pytest.mark.parametrize(
    ("request_", "words"),
    [("crash", "SIGSEGV"), ("be_killed", "SIGKILL.*probably out of memory"), ("leave", "exit code 3")],
)
def test_a_crash_is_told_in_words_and_the_next_request_is_answered(
    worker: Worker[str, object], request_: str, words: str
) -> None:
    error = refused(worker, request_)
    assert error.reason == "crash"
    assert re.search(words, error.detail)
    assert worker.run("calls", PATIENT_S) == 1


@pytest.mark.parametrize("request_", ["allocate", "torch_out_of_memory"])
def test_memory_beyond_the_limit_is_memory_and_the_next_request_gets_a_fresh_child(
    worker: Worker[str, object], request_: str
) -> None:
    worker.start()
    assert refused(worker, request_).reason == "memory"
    assert worker.run("calls", PATIENT_S) == 1


def test_without_a_limit_the_same_allocation_succeeds() -> None:
    worker = Worker(answering, memory_limit_bytes=None, start_timeout_s=PATIENT_S)
    assert worker.run("allocate", PATIENT_S) == LIMIT_BYTES + 1
    worker.stop()


def test_an_unexpected_error_comes_with_its_type_and_the_childs_traceback(worker: Worker[str, object]) -> None:
    error = refused(worker, "divide")
    assert error.reason == "error"
    assert error.detail.startswith("ZeroDivisionError: division by zero")
    assert "in divide" in error.detail
    assert worker.run("calls", PATIENT_S) == 2


def test_an_error_of_the_disk_keeps_its_number(worker: Worker[str, object]) -> None:
    assert refused(worker, "read_badly").errno == errno.EIO
    assert refused(worker, "divide").errno is None


def test_an_answer_that_cannot_travel_is_an_error_not_a_hang(worker: Worker[str, object]) -> None:
    assert refused(worker, "function").reason == "error"


def test_our_own_errors_come_back_as_themselves(worker: Worker[str, object]) -> None:
    with pytest.raises(RefusedSeries, match="no_brain: 12 mL") as series:
        worker.run("refuse", PATIENT_S)
    assert (series.value.reason, series.value.detail) == (Reason.NO_BRAIN, "12 mL")
    assert any("in refuse" in note for note in series.value.__notes__)
    with pytest.raises(DeliveryError) as delivery:
        worker.run("fail_delivery", PATIENT_S)
    assert (delivery.value.status, delivery.value.permanent) == (0xA700, False)
    assert worker.run("calls", PATIENT_S) == 3


def test_an_error_of_setup_is_raised_by_start_and_leaves_no_child() -> None:
    worker = Worker(failing_setup, memory_limit_bytes=None, start_timeout_s=PATIENT_S)
    with pytest.raises(BundleError, match="altered"):
        worker.start()
    assert not worker.alive


def test_a_setup_that_hangs_is_killed_at_the_start_timeout() -> None:
    worker = Worker(hanging_setup, memory_limit_bytes=None, start_timeout_s=0.5)
    with pytest.raises(InferenceError, match="deadline"):
        worker.start()
    assert not worker.alive


def test_a_setup_that_crashed_is_tried_again_at_the_next_request(tmp_path: Path) -> None:
    worker = Worker(partial(crashing_setup, tmp_path / "tried"), memory_limit_bytes=None, start_timeout_s=PATIENT_S)
    assert refused(worker, "calls").reason == "crash"
    assert worker.run("calls", PATIENT_S) == 1
    worker.stop()


def test_a_child_that_died_while_idle_is_replaced(worker: Worker[str, object]) -> None:
    pid = worker.run("pid", PATIENT_S)
    assert isinstance(pid, int)
    gone = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([gone], [], [], PATIENT_S)[0]
    assert worker.run("pid", PATIENT_S) != pid


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_service_stop_are_left_to_the_parent(worker: Worker[str, object], signal_: signal.Signals) -> None:
    pid = worker.run("pid", PATIENT_S)
    assert isinstance(pid, int)
    os.kill(pid, signal_)
    assert worker.run("pid", PATIENT_S) == pid
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_what_the_child_prints_is_no_output_of_the_parent(
    worker: Worker[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    worker.run("speak", PATIENT_S)
    worker.stop()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "said by the child" in captured.err


def test_warnings_of_the_child_which_quote_what_was_received_are_not_written(
    worker: Worker[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    worker.run("warn", PATIENT_S)
    worker.stop()
    assert capfd.readouterr() == ("", "")


def test_stop_leaves_no_process_and_may_be_repeated(worker: Worker[str, object]) -> None:
    pid = worker.run("pid", PATIENT_S)
    assert isinstance(pid, int)
    worker.stop()
    worker.stop()
    assert not worker.alive
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        f"from {__name__} import PATIENT_S, Worker, answering\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker(answering, memory_limit_bytes=None, start_timeout_s=PATIENT_S)\n"
        "    print(worker.run('pid', PATIENT_S), flush=True)\n"
        "    worker.run('hang', PATIENT_S)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert select.select([child], [], [], 2.0)[0], "the child outlived its parent"
