"""A receiver on real sockets and real SQLite, without the rest of the node."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from ichnode.dicom.checkpoint import place_checkpoint
from ichnode.dicom.scp import StorageSCP
from ichnode.dicom.scu import Outgoing
from ichnode.metrics import Metrics
from ichnode.stages.receive import ReceiveStage
from ichnode.storage.files import FileStore
from ichnode.storage.intake import Intake
from tests.series_factory import part10, phantom_datasets


@dataclass
class Receiving:
    """What a test may look at."""

    port: int
    store: FileStore
    intake: Intake
    metrics: Metrics
    folder: Path

    def files(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())

    def received(self, study_instance_uid: str) -> list[Any]:
        return list(self.intake.snapshot(study_instance_uid, last_instance_id=10**9).instances)


@pytest.fixture
def start_receiving(engine, tmp_path):
    """Starts receivers with the given options, and stops them at the end."""
    running = []

    def start(*, lenient=False, reserve_bytes=0, store=None, clock=lambda: 1000.0, **scp):
        folder = tmp_path / "instances"
        store = store or FileStore(folder, reserve_bytes=reserve_bytes)
        intake = Intake(engine)
        metrics = Metrics(sources=["SCANNER"], count_jobs=dict)
        stage = ReceiveStage(
            store=store, intake=intake, metrics=metrics, lenient=lenient, clock=clock, wake=lambda: None
        )
        options = {"ae_title": "ICHNODE", "host": "127.0.0.1", "port": 0, "max_associations": 10} | scp
        server = StorageSCP(stage, **options)
        server.start()
        running.append(server)
        return Receiving(port=server.port, store=store, intake=intake, metrics=metrics, folder=folder)

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def receiving(start_receiving):
    return start_receiving()


@pytest.fixture
def associate():
    """Opens associations as a pynetdicom sender that never takes a response for a request, and ends them."""
    opened, handlers = [], [(evt.EVT_CONN_OPEN, place_checkpoint)]

    def associate(port, *classes, syntax=ExplicitVRLittleEndian, calling="SCANNER", called="ICHNODE"):
        ae = AE(calling)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 10
        contexts = [build_context(c, syntax) for c in classes] or [build_context("1.2.840.10008.1.1")]
        association = ae.associate("127.0.0.1", port, contexts=contexts, ae_title=called, evt_handlers=handlers)
        opened.append(association)
        return association

    yield associate
    for association in opened:
        if association.is_established:
            association.abort()


@pytest.fixture
def objects(tmp_path) -> list[Outgoing]:
    """Three files to send."""
    result = []
    for number, dataset in enumerate(phantom_datasets()[:3]):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(part10(dataset))
        uid = dataset.SOPInstanceUID
        result.append(Outgoing(sop_class_uid=CTImageStorage, sop_instance_uid=uid, file=str(path)))
    return result


def encoded(dataset: Dataset) -> bytes:
    """A data set alone, as it travels in a C-STORE."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    meta_length = int.from_bytes(content[140:144], "little")
    return content[144 + meta_length :]
