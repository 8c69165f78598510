"""Storage commitment: the SCU of the Storage Commitment Push Model (PS3.4 Annex J).

A destination that took instances is asked by N-ACTION to commit itself to keep them. It says so, or which it does not
have, in an N-EVENT-REPORT: on the same association, or minutes later on one that it opens to our SCP, for which
`report_context` and `IncomingReport` are made.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from ichnode.dicom.scu import Outgoing, Peer, associate
from ichnode.dicom.statuses import EventReportStatus
from ichnode.errors import DeliveryError, NotStored

log = logging.getLogger(__name__)

_REQUEST = 1  # Action Type ID, PS3.4 J.3.2.1
_PROCESSING_FAILURE = 0x0110
_LONGEST_REPORT = 1024**2  # bytes; an instance takes about 150
_MOST_ITEMS = 8000  # in it; of empty ones it could hold 130,000, each of which is a Dataset of a kilobyte and more
_ITEM_TAG = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """The event information of an N-EVENT-REPORT (PS3.4 table J.3-3)."""

    transaction_uid: str
    committed: frozenset[str]  # SOP Instance UIDs
    failed: Mapping[str, int]  # SOP Instance UID -> Failure Reason (0008,1197)


# What is told of a report: notes it durably, and says whether its transaction is known.
Reported = Callable[[CommitmentReport], bool]


def request_commitment(
    peer: Peer,
    transaction_uid: str,
    objects: Sequence[Outgoing],
    *,
    calling_ae_title: str,
    wait_s: float,
    reported: Reported,
) -> bool:
    """Ask for the commitment of `objects`; whether a report came on the same association, within `wait_s`.

    Raises DeliveryError when the request is not taken.
    """
    ended = threading.Event()  # a report came, or the connection is gone
    answers: list[int] = []

    def answer(event: Any) -> tuple[int, None]:
        status = _answer(lambda: event.event_information, reported)
        answers.append(status)
        return status, None

    def pdu_sent(_: Any) -> None:
        if answers:  # then it was the answer to the report: a release before that would make the destination repeat it
            ended.set()

    handlers = [
        (evt.EVT_N_EVENT_REPORT, answer),
        (evt.EVT_PDU_SENT, pdu_sent),
        (evt.EVT_CONN_CLOSE, lambda _: ended.set()),
    ]
    association = associate(peer, {StorageCommitmentPushModel}, calling_ae_title=calling_ae_title, handlers=handlers)
    if association is None:
        raise DeliveryError(None, "the destination does not accept Storage Commitment Push Model", permanent=False)
    try:
        _ask(association, transaction_uid, objects)
        ended.wait(wait_s)
    finally:
        if association.is_established:
            association.release()
    return EventReportStatus.SUCCESS in answers


def _ask(association: Any, transaction_uid: str, objects: Sequence[Outgoing]) -> None:
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [_reference(outgoing) for outgoing in objects]
    try:
        response, _ = association.send_n_action(
            request, _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except RuntimeError as lost:
        raise DeliveryError(None, "connection lost", permanent=False) from lost
    if "Status" not in response:
        raise DeliveryError(None, "no answer to N-ACTION within the time limit, or connection lost", permanent=False)
    if response.Status != 0x0000:
        status = int(response.Status)
        detail = f"commitment is not given: 0x{status:04X} {response.get('ErrorComment', '')}".strip()
        raise DeliveryError(status, detail, permanent=False)


def _reference(outgoing: Outgoing) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = outgoing.sop_class_uid
    item.ReferencedSOPInstanceUID = outgoing.sop_instance_uid
    return item


def report_context() -> PresentationContext:
    """What an acceptor of reports supports: the requestor is the SCP, by role selection (PS3.7 D.3.3.4)."""
    context = build_context(StorageCommitmentPushModel, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    context.scu_role, context.scp_role = False, True
    return context


class IncomingReport:
    """The event information of a report that comes on an association of its own: a `receiver.Incoming`."""

    def __init__(self, transfer_syntax_uid: str, reported: Reported) -> None:
        self._syntax = UID(transfer_syntax_uid)
        self._reported = reported
        self._encoded = bytearray()

    def write(self, fragment: memoryview) -> None:
        """Hold it. Raises NotStored when there is too much of it."""
        if len(self._encoded) + len(fragment) > _LONGEST_REPORT:
            raise NotStored(EventReportStatus.PROCESSING_FAILURE, f"a report exceeds {_LONGEST_REPORT} bytes")
        self._encoded += fragment

    def keep(self) -> None:
        """Note the report. Raises NotStored where that is not done."""
        if self._encoded.count(_ITEM_TAG) > _MOST_ITEMS:
            raise NotStored(EventReportStatus.PROCESSING_FAILURE, f"a report has more than {_MOST_ITEMS} items")
        status = _answer(self._information, self._reported)
        if status != EventReportStatus.SUCCESS:
            raise NotStored(status, "the report is not noted")

    def discard(self) -> None:
        """Nothing is left of it."""

    def _information(self) -> Dataset:
        encoded = BytesIO(self._encoded)
        return read_dataset(encoded, self._syntax.is_implicit_VR, self._syntax.is_little_endian)


def _answer(information: Callable[[], Dataset], reported: Reported) -> EventReportStatus:
    """Success only when `reported` has noted the report."""
    try:
        report = _read(information())
        if report is None or not reported(report):
            return EventReportStatus.UNKNOWN_TRANSACTION
    except Exception:
        log.exception("commitment_report_failed")
        return EventReportStatus.PROCESSING_FAILURE
    return EventReportStatus.SUCCESS


def _read(information: Dataset) -> CommitmentReport | None:
    """None without a Transaction UID. An instance that is told to be both counts as failed."""
    if not information.get("TransactionUID"):
        return None
    failed = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or _PROCESSING_FAILURE)
        for item in information.get("FailedSOPSequence") or ()
    }
    committed = {str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence") or ()}
    return CommitmentReport(
        transaction_uid=str(information.TransactionUID), committed=frozenset(committed - failed.keys()), failed=failed
    )
