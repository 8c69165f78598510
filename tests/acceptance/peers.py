"""Real peers as child processes: found or visibly missing, waited for, and ended by their pid."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import NoReturn

import pytest
from pynetdicom import AE, evt

from ichnode.dicom.checkpoint import place_checkpoint

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
_NO_DELAY = {"TCP_NODELAY": "1"}  # DCMTK, and Orthanc with it, otherwise stalls 40 ms an instance


def missing(what: str, remedy: str) -> NoReturn:
    """Skip this test, or fail it where ICHNODE_REQUIRE_PEERS=1 promises that every peer is installed."""
    message = f"{what} is not here: {remedy}"
    if os.environ.get("ICHNODE_REQUIRE_PEERS") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def program(name: str, package: str) -> str:
    """Absolute path of an installed program of a Debian package."""
    found = shutil.which(name, path=_PATH)
    return found or missing(name, f"apt-get install {package}")


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def run(command: Sequence[str | Path], *, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; standard error is joined to standard output, undecodable bytes are replaced."""
    return subprocess.run(
        command,
        env=os.environ | _NO_DELAY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


@contextmanager
def child(
    command: Sequence[str | Path], *, log: Path, ready: Callable[[], bool], timeout_s: float = 60
) -> Iterator[subprocess.Popen[bytes]]:
    """A running server, from when it is `ready` to the end of the block; what it prints is in `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | _NO_DELAY, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until(ready, process, log, timeout_s)
        yield process
    finally:
        _end(process)


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    deadline = monotonic() + timeout_s
    while not ready():
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            if monotonic() < deadline:
                continue
        pytest.fail(f"{process.args!r} does not serve:\n{log.read_text(errors='replace')[-4000:]}", pytrace=False)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers_echo(port: int, called: str, calling: str) -> bool:
    """Whether an application entity on a loopback port answers a C-ECHO with 0x0000."""
    ae = AE(ae_title=calling)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=[(evt.EVT_CONN_OPEN, place_checkpoint)])
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return "Status" in status and status.Status == 0x0000
