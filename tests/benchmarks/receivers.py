"""ichnode's receive path and its peers as processes of their own, each with an empty store and TCP_NODELAY.

As a program: `python -m tests.benchmarks.receivers ichnode|pynetdicom PORT FOLDER` receives until it is ended.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.acceptance.peers import answers_echo, child, free_port, program

PDU = 128 * 1024
AE_TITLE = "BENCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """How one receiver is started, and what has to be said about it beside its numbers."""

    name: str
    setting: str
    command: Callable[[int, Path], Sequence[str]]  # port, empty folder


@contextmanager
def running(receiver: Receiver, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The receiver with its store in the new folder `folder`; gives its port and its process."""
    folder.mkdir()
    port = free_port()
    command = receiver.command(port, folder)
    ready = lambda: answers_echo(port, AE_TITLE, "HARNESS")  # noqa: E731
    with child(command, log=folder / "receiver.log", ready=ready) as process:
        yield port, psutil.Process(process.pid)


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process and its ended children have taken."""
    used = process.cpu_times()
    return float(used.user + used.system + used.children_user + used.children_system)


def _python(name: str) -> Callable[[int, Path], Sequence[str]]:
    return lambda port, folder: [sys.executable, "-m", "tests.benchmarks.receivers", name, str(port), str(folder)]


def _orthanc(*, fsync: bool) -> Callable[[int, Path], Sequence[str]]:
    def command(port: int, folder: Path) -> Sequence[str]:
        config = {
            "StorageDirectory": str(folder / "data"),
            "IndexDirectory": str(folder / "data"),
            "SyncStorageArea": fsync,
            "TcpNoDelay": True,
            "MaximumPduLength": PDU,
            "HttpServerEnabled": False,
            "DicomAet": AE_TITLE,
            "DicomPort": port,
            "DicomAlwaysAllowStore": True,
        }
        (folder / "orthanc.json").write_text(json.dumps(config))
        return [program("Orthanc", "orthanc"), str(folder / "orthanc.json")]

    return command


def _storescp(port: int, folder: Path) -> Sequence[str]:
    options = ("--fork", "--promiscuous", "--max-pdu", str(PDU), "--aetitle", AE_TITLE, "--output-directory")
    return [program("storescp", "dcmtk"), *options, str(folder), str(port)]


ICHNODE_RECEIVER = Receiver(
    name="ichnode", setting="fsync of file and folder, committed row; PDU 128 KiB", command=_python("ichnode")
)
PEERS = (
    Receiver(name="Orthanc, fsync", setting="fsync of the file; PDU 128 KiB", command=_orthanc(fsync=True)),
    Receiver(name="Orthanc", setting="no fsync; PDU 128 KiB", command=_orthanc(fsync=False)),
    Receiver(name="DCMTK storescp --fork", setting="no fsync, no index; PDU 128 KiB", command=_storescp),
    Receiver(
        name="pynetdicom, raw bytes",
        setting="no fsync, no index; PDU 128 KiB",
        command=_python("pynetdicom"),
    ),
)


def _receive_as_ichnode(port: int, folder: Path) -> None:
    """The receive path alone, as the node builds it."""
    from ichnode.dicom.scp import StorageSCP
    from ichnode.metrics import Metrics
    from ichnode.stages.receive import ReceiveStage
    from ichnode.storage.files import FileStore
    from ichnode.storage.intake import Intake
    from ichnode.storage.schema import open_engine

    stage = ReceiveStage(
        store=FileStore(folder / "instances"),
        intake=Intake(open_engine(f"sqlite:///{folder}/ichnode.db")),
        metrics=Metrics(sources=[], count_jobs=dict),
        lenient=False,
        clock=time.time,
        wake=lambda: None,
    )
    StorageSCP(stage, ae_title=AE_TITLE, host="127.0.0.1", port=port, max_associations=32).start()


def _receive_as_pynetdicom(port: int, folder: Path) -> None:
    """Stock pynetdicom, with the handler of its documentation that writes the bytes as they came."""
    import socket
    from uuid import uuid4

    from pynetdicom import AE, AllStoragePresentationContexts, evt
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    def no_delay(event: Any) -> None:
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def store(event: Any) -> int:
        (folder / f"{uuid4().hex}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    ae = AE(AE_TITLE)
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    ae.maximum_pdu_size = PDU
    ae.maximum_associations = 32
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, no_delay), (evt.EVT_C_STORE, store)]
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)


if __name__ == "__main__":
    _start = {"ichnode": _receive_as_ichnode, "pynetdicom": _receive_as_pynetdicom}[sys.argv[1]]
    _start(int(sys.argv[2]), Path(sys.argv[3]))
    threading.Event().wait()
