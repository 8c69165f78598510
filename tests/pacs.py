"""PACS for tests, in this process: they remember what they took, and can be made to misbehave."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from ichnode.dicom.checkpoint import place_checkpoint
from ichnode.dicom.commitment import Reported
from ichnode.dicom.receiver import InMemory, StoreRequest
from ichnode.dicom.scp import StorageSCP
from ichnode.errors import NotStored

_CHECKPOINT = (evt.EVT_CONN_OPEN, place_checkpoint)


class Pacs:
    """A storage SCP. Listens on a port of its own from the start of a `with` block to its end."""

    def __init__(self, *, answers: list[int] | None = None, port: int = 0, ae_title: str = "PACS") -> None:
        self.answers = answers or []  # statuses for the first instances; then success
        self.taken: list[Dataset] = []  # in order, resends included
        self._arrived = threading.Condition()
        self._scp = StorageSCP(self, ae_title=ae_title, host="127.0.0.1", port=port, max_associations=8)
        self.port = self._scp.port

    def __enter__(self):
        self._scp.start()
        return self

    def __exit__(self, *_):
        self._scp.stop()

    def association_opened(self, *, calling_ae_title: str, peer: str) -> int:
        return 1

    def association_closed(self, association_id: int, *, ending: str) -> None:
        pass

    def begin(self, request: StoreRequest) -> InMemory:
        return InMemory(request, self._take)

    def _take(self, file: bytes) -> None:
        if self.answers and (status := self.answers.pop(0)):
            raise NotStored(status, "as the test wants it")
        with self._arrived:
            self.taken.append(dcmread(BytesIO(file)))
            self._arrived.notify_all()

    def wait_for(self, count: int, *, timeout_s: float = 60) -> list[Dataset]:
        """What it took, once there are `count`."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.taken) >= count, timeout_s), f"took {len(self.taken)}"
            return list(self.taken)

    def by_description(self) -> dict[str, Dataset]:
        """The newest object of each series description, without the common prefix."""
        return {str(d.SeriesDescription).removeprefix("AI RESEARCH: "): d for d in self.taken}


class ArchivingPacs(Pacs):
    """Also keeps the bytes, and knows what belongs together."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, set[bytes]] = {}  # by SOP Instance UID

    def _take(self, file: bytes) -> None:
        super()._take(file)
        self.files.setdefault(str(self.taken[-1].SOPInstanceUID), set()).add(file)

    def of_study(self, study_instance_uid: str) -> set[str]:
        return {str(d.SOPInstanceUID) for d in self.taken if d.StudyInstanceUID == study_instance_uid}


class CommittingPacs:
    """A stock pynetdicom PACS that also commits itself to keep what it took, in a `with` block.

    It reports on the association of the request, unless `silent`: then a test may `report` to a port, where it opens an
    association of its own, as most PACS do. What is in `lost` it does not have.
    """

    def __init__(
        self,
        *,
        takes: Collection[str] = (
            CTImageStorage,
            SecondaryCaptureImageStorage,
            SegmentationStorage,
            Comprehensive3DSRStorage,
        ),
        commits: bool = True,
        silent: bool = False,
        action_status: int = 0x0000,
    ) -> None:
        self.taken: list[str] = []  # SOP Instance UIDs in order, resends included
        self.offered: list[str] = []  # SOP classes of every C-STORE, in order
        self.lost: dict[str, int] = {}  # SOP Instance UID -> Failure Reason
        self.asked: list[Dataset] = []
        self.answers: list[int] = []  # to its reports
        self.statuses: dict[str, int] = {}  # SOP class -> what its C-STORE is answered
        self._silent = silent
        self._action_status = action_status
        self._threads: list[threading.Thread] = []
        self._ae = AE("PACS")
        for sop_class in takes:
            self._ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        if commits:
            self._ae.add_supported_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)

    def __enter__(self):
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action), _CHECKPOINT]
        self._server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *_):
        for thread in self._threads:
            thread.join(10)
        self._server.shutdown()

    def report(self, port: int, request: Dataset, *, roles: Mapping[str, bool] | None = None) -> int | None:
        """Report on a request over an association to whoever listens on `port`; what that is answered.

        `roles`: what it proposes to be (PS3.7 D.3.3.4), the SCP as the standard wants it, unless told otherwise.
        """
        ae = AE("PACS")
        ae.acse_timeout = ae.dimse_timeout = 10
        ae.add_requested_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)
        roles = {"scp_role": True} if roles is None else roles
        proposed = [build_role(StorageCommitmentPushModel, **roles)] if roles else []
        association = ae.associate("127.0.0.1", port, ae_title="ICHNODE", ext_neg=proposed, evt_handlers=[_CHECKPOINT])
        assert association.is_established
        status = self._send_report(association, request)
        association.release()
        return status

    def _store(self, event) -> int:
        self.offered.append(event.request.AffectedSOPClassUID)
        status = self.statuses.get(event.request.AffectedSOPClassUID, 0x0000)
        if status == 0x0000:
            self.taken.append(event.request.AffectedSOPInstanceUID)
        return status

    def _action(self, event):
        request = event.action_information
        self.asked.append(request)
        if self._action_status == 0x0000 and not self._silent:
            thread = threading.Thread(target=self._send_report, args=(event.assoc, request))
            self._threads.append(thread)
            thread.start()
        return self._action_status, None

    def _send_report(self, association, request: Dataset) -> int | None:
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        references = list(request.ReferencedSOPSequence)
        failed = [item for item in references if item.ReferencedSOPInstanceUID in self.lost]
        report.ReferencedSOPSequence = [item for item in references if item not in failed]
        for item in failed:
            item.FailureReason = self.lost[item.ReferencedSOPInstanceUID]
        if failed:
            report.FailedSOPSequence = failed
        answer, _ = association.send_n_event_report(
            report, 2 if failed else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        self.answers.append(answer.get("Status"))
        return self.answers[-1]


@contextmanager
def report_listener(reported: Reported, *, port: int = 0) -> Iterator[int]:
    """The SCP of a node, for its reports on storage commitment; its port."""
    with Pacs() as pacs:
        scp = StorageSCP(pacs, ae_title="ICHNODE", host="127.0.0.1", port=port, max_associations=8, reported=reported)
        scp.start()
        yield scp.port
        scp.stop()
