"""The storage SCP: C-ECHO, and C-STORE that hands the encoded bytes on and answers what became of them.

Nothing here knows files or tables: `Receiver` says what the stages give the SCP to call.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from ichnode.dicom.contexts import accepted_contexts
from ichnode.dicom.listener import LOOPBACK_ONLY, AdmittedSource, Listener
from ichnode.dicom.part10 import part10_header
from ichnode.dicom.statuses import StoreStatus
from ichnode.errors import NotStored

log = logging.getLogger(__name__)

MAXIMUM_PDU_SIZE = 128 * 1024  # the fastest, measured; unlimited is slower
ACSE_TIMEOUT_S = 15
IDLE_TIMEOUT_S = 120
_NAMED_CLASSES = 3  # of the refused SOP classes, so many stand in the log


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """One C-STORE as it came: the command's words, and the data set as encoded."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax_uid: str  # of the presentation context it came on
    transfer_syntax_uid: str
    encoded: bytes
    association_id: int
    source: str  # calling AE title

    @property
    def file_header(self) -> bytes:
        """Preamble and file meta information: followed by `encoded`, a DICOM file."""
        return part10_header(
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )


class Receiver(Protocol):
    """What the SCP calls."""

    def association_opened(self, *, calling_ae_title: str, peer: str) -> int:
        """The first C-STORE of an association; returns the id that its requests will carry."""

    def association_closed(self, association_id: int, *, ending: str) -> None:
        """An association that stored something was "released" or "aborted"."""

    def store(self, request: StoreRequest) -> None:
        """Keep the instance; returning is the promise that it is durable. Raises NotStored."""


class StorageSCP:
    """Listens on one address until stopped."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        ae_title: str,
        host: str,
        port: int,
        max_associations: int,
        admitted: Sequence[AdmittedSource] = LOOPBACK_ONLY,
    ) -> None:
        self._receiver = receiver
        self._rows: dict[Any, int] = {}  # association -> id, while it is open
        ae = AE(ae_title)
        ae.supported_contexts = accepted_contexts()
        ae.maximum_pdu_size = MAXIMUM_PDU_SIZE
        ae.maximum_associations = max_associations
        ae.require_called_aet = True
        ae.acse_timeout, ae.network_timeout, ae.dimse_timeout = ACSE_TIMEOUT_S, IDLE_TIMEOUT_S, IDLE_TIMEOUT_S
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACSE_RECV, self._acse_received),
            (evt.EVT_CONN_CLOSE, self._connection_closed),
            (evt.EVT_REJECTED, _log_rejection),
            (evt.EVT_ACCEPTED, _log_refused_contexts),
        ]
        listener: Any = ae.make_server((host, port), evt_handlers=handlers, server_class=Listener)
        listener.admitted = admitted
        self._listener = listener
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.2,), name="listener", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on (the one chosen by the system when 0 was asked for)."""
        return int(self._listener.server_address[1])

    def start(self) -> None:
        """Accept associations from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more, and abort what is open: the sender keeps what was not acknowledged."""
        self._listener.shutdown()
        for association in self._listener.active_associations:
            association.abort()

    @property
    def alive(self) -> bool:
        """Whether the listening thread runs."""
        return self._thread.is_alive()

    def _store(self, event: Any) -> Dataset | int:
        request, context = event.request, event.context
        try:
            self._receiver.store(
                StoreRequest(
                    sop_class_uid=str(request.AffectedSOPClassUID),
                    sop_instance_uid=str(request.AffectedSOPInstanceUID),
                    abstract_syntax_uid=str(context.abstract_syntax),
                    transfer_syntax_uid=str(context.transfer_syntax),
                    encoded=request.DataSet.getvalue(),
                    association_id=self._row(event.assoc),
                    source=str(event.assoc.requestor.ae_title).strip(),
                )
            )
        except NotStored as refusal:
            return _answer(refusal.status, refusal.comment)
        except Exception:
            log.exception("store_failed")
            return _answer(StoreStatus.INTERNAL_ERROR, "internal error, see the log of ichnode")
        return int(StoreStatus.SUCCESS)

    def _row(self, association: Any) -> int:
        if association not in self._rows:
            requestor = association.requestor
            self._rows[association] = self._receiver.association_opened(
                calling_ae_title=str(requestor.ae_title).strip(), peer=str(requestor.address)
            )
        return self._rows[association]

    def _acse_received(self, event: Any) -> None:
        if type(event.primitive).__name__ == "A_RELEASE" and event.primitive.result is None:
            self._close(event.assoc, "released")

    def _connection_closed(self, event: Any) -> None:
        self._close(event.assoc, "aborted")  # no effect after a release

    def _close(self, association: Any, ending: str) -> None:
        association_id = self._rows.pop(association, None)
        if association_id is None:
            return
        try:
            self._receiver.association_closed(association_id, ending=ending)
        except Exception:
            log.exception("association_not_closed")


def _log_rejection(event: Any) -> None:
    """A scanner that cannot send is the most common call an administrator gets: say who was turned away, and why."""
    request, answer = event.assoc.requestor.primitive, event.assoc.acceptor.primitive
    extra = {
        "source": request.calling_ae_title,
        "called_ae_title": request.called_ae_title,
        "peer": event.assoc.requestor.address,
        "reason": getattr(answer, "reason_str", "calling AE title and address are not admitted"),
    }
    log.warning("association_rejected", extra=extra)


def _log_refused_contexts(event: Any) -> None:
    """One line an association: some senders propose every SOP class there is."""
    accepted = {context.abstract_syntax for context in event.assoc.accepted_contexts}
    refused = sorted({context.abstract_syntax for context in event.assoc.rejected_contexts} - accepted)
    if refused:
        named = " ".join(refused[:_NAMED_CLASSES])
        extra = {"source": event.assoc.requestor.ae_title, "count": len(refused), "detail": named}
        log.log(logging.INFO if accepted else logging.WARNING, "sop_classes_refused", extra=extra)


def _answer(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:64]
    return answer
