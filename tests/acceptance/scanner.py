"""A scanner: keeps the files of its studies, and sends each instance over and over until it is acknowledged."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.dicom.statuses import Verdict
from ichnode.errors import DeliveryError
from ichnode.phantom import Geometry, head_ct

_pause = threading.Event()


@dataclass(frozen=True, slots=True)
class ScannedStudy:
    """One series of one study, as the scanner keeps it."""

    study_instance_uid: str
    instances: Sequence[Outgoing]


def scan(folder: Path, *, seed: int, geometry: Geometry) -> ScannedStudy:
    """A head with a hematoma, its files in `folder`. The same seed is the same study."""
    datasets = head_ct(hematoma_ml=30, geometry=geometry, seed=seed).datasets
    instances = []
    for dataset in datasets:
        file = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        instances.append(
            Outgoing(sop_class_uid=dataset.SOPClassUID, sop_instance_uid=str(dataset.SOPInstanceUID), file=str(file))
        )
    return ScannedStudy(str(datasets[0].StudyInstanceUID), instances)


@dataclass(slots=True)
class Scanner:
    """What was acknowledged to it, it may forget."""

    port: int
    acknowledged: set[str] = field(default_factory=set)

    def send(self, study: ScannedStudy) -> None:
        """Once, what is not acknowledged yet. Raises DeliveryError when the node is gone."""
        peer = Peer(ae_title="ICHNODE", host="127.0.0.1", port=self.port, connect_timeout_s=3, response_timeout_s=10)
        waiting = [i for i in study.instances if i.sop_instance_uid not in self.acknowledged]
        for instance, outcome in zip(
            waiting, chain.from_iterable(send(peer, waiting, calling_ae_title="CT")), strict=False
        ):
            if outcome.verdict is Verdict.DELIVERED:
                self.acknowledged.add(instance.sop_instance_uid)

    def send_until_acknowledged(self, study: ScannedStudy) -> None:
        """Over and over, until everything is."""
        while any(i.sop_instance_uid not in self.acknowledged for i in study.instances):
            try:
                self.send(study)
            except DeliveryError:
                _pause.wait(0.3)


def data_set_of(content: bytes) -> bytes:
    """The encoded data set of a DICOM file, without preamble and file meta information."""
    return content[144 + int.from_bytes(content[140:144], "little") :]
