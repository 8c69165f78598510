"""An association that a peer asked for: negotiated, served, and ended, in one thread that blocks on its socket.

Every request gets one response, or the association an A-ABORT. Data sets are handed on as they come, so an object of
any size takes the memory of one PDU. pynetdicom serves associations in two threads that look at the socket every
millisecond, and collects data sets in memory: this takes its place (docs/decisions, 50).
"""

import logging
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import NamedTuple

from pydicom.config import IGNORE
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from ichnode.dicom.admission import AdmittedSource, Rejection, Slots, TurnedAway
from ichnode.dicom.command import LONGEST_COMMAND, Command, Request, Tag, parse_command, response
from ichnode.dicom.commitment import IncomingReport, Reported
from ichnode.dicom.negotiation import Acceptance, Context, Proposal, acceptance, proposal
from ichnode.dicom.pdu import (
    RELEASE_RP,
    BrokenPdu,
    Fragment,
    PduStream,
    PduType,
    Reason,
    abort,
    command_pdus,
    fragments,
    rejection,
)
from ichnode.dicom.receiver import Incoming, Receiver, StoreRequest
from ichnode.dicom.statuses import DimseStatus
from ichnode.errors import NotStored

log = logging.getLogger(__name__)

MAXIMUM_PDU_SIZE = 128 * 1024  # the fastest, measured; unlimited is slower
LONGEST_PDU = 256 * 1024  # what is read of a peer that does not keep to it
IDLE_S = 120.0  # between messages
ECHO_IDLE_S = 15.0  # ... of those that have one of the few places for C-ECHO
MESSAGE_IDLE_S = 30.0  # between the PDUs of a message, and for the whole of it where it has no data
LEAST_BYTES_S = 1024  # of a data set, for which the message may take a second longer: a trickle holds no place
_REJECTION_AFTER_S = 0.1  # pynetdicom as a sender takes an answer that comes at once for a failed connection
_LINGER_S = 0.5  # for the peer to close, after the last word
_NAMED_CLASSES = 3  # of the refused SOP classes, so many stand in the log


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptor:
    """What all associations of one SCP share."""

    ae_title: str
    receiver: Receiver
    admitted: Sequence[AdmittedSource]
    contexts: list[PresentationContext]
    slots: Slots
    reported: Reported  # storage commitment
    turned_away: Callable[[Rejection], None]
    refuses: Callable[[], bool]  # whether whoever wants to send should come again later
    most_bytes: int  # of one data set


class _Refusal(NamedTuple):
    """Why a peer gets no association."""

    answer: tuple[int, int, int]  # result, source and diagnostic: PS3.8 table 9-21
    why: TurnedAway
    reason: str


@dataclass(slots=True)
class _Message:
    """A message that is arriving."""

    context_id: int
    encoded: bytearray = field(default_factory=bytearray)  # command set
    command: Command | None = None  # once it is whole
    incoming: Incoming | None = None  # where its data set goes; None: nowhere
    refusal: NotStored | None = None
    size: int = 0  # of the data set
    waited_s: float = 0.0  # for its PDUs

    @property
    def patience_s(self) -> float:
        """How long its next PDU may take to begin."""
        return min(MESSAGE_IDLE_S, MESSAGE_IDLE_S + self.size / LEAST_BYTES_S - self.waited_s)


class Association:
    """One connection, from its A-ASSOCIATE-RQ on."""

    def __init__(self, connection: socket.socket, address: str, request: bytes, acceptor: Acceptor) -> None:
        self._connection, self._request = connection, request
        self.address = address
        self.is_served = False  # until it has a place; most of those who have none are to be turned away
        self._acceptor, self._receiver = acceptor, acceptor.receiver
        self._stream = PduStream(connection, longest=LONGEST_PDU)
        self._contexts: Mapping[int, Context] = {}
        self._longest = 0  # PDU that the peer reads; 0: any
        self._source = ""
        self._row: int | None = None  # of the receiver, from the first C-STORE on
        self._message: _Message | None = None
        self.thread = Thread(target=self._run, name="association", daemon=True)

    @property
    def deadline(self) -> float:
        """time.monotonic() at which its peer has been silent for too long."""
        return self._stream.deadline

    def give_up(self) -> None:
        """Ask it to end with an A-ABORT, as soon as it has answered what it is busy with. From any thread."""
        self._stream.give_up()

    def _run(self) -> None:
        try:
            last_words = self._meet(proposal(self._request))
        except BrokenPdu as problem:
            log.warning("broken_pdu", extra={"peer": self.address, "source": self._source, "detail": str(problem)})
            last_words = abort(problem.reason)
        except Exception:
            log.exception("association_failed", extra={"peer": self.address})
            last_words = abort(Reason.NOT_SPECIFIED)
        with suppress(OSError):  # nobody listens
            self._stream.write(last_words)
        _close(self._connection)

    def _meet(self, asked: Proposal) -> bytes:
        """Turn the peer away, or serve it; the last word to it. Its place is free before it hears that."""
        refusal = self._refusal(asked)
        if refusal is None:
            place = self._acceptor.slots.take(self.address, only_echo=asked.only_echo)
            if place is not None:
                self.is_served = True
                try:
                    return self._serve_all(asked)
                finally:
                    self._acceptor.slots.give_back(self.address, place)
            refusal = _Refusal((2, 3, 2), TurnedAway.NO_PLACE, "no place is free")
        titles = {"calling_ae_title": asked.calling_ae_title, "called_ae_title": asked.called_ae_title}
        self._acceptor.turned_away(
            Rejection(why=refusal.why, reason=refusal.reason, peer=self.address, **titles),
        )
        time.sleep(_REJECTION_AFTER_S)
        return rejection(*refusal.answer)

    def _refusal(self, asked: Proposal) -> _Refusal | None:
        """Why not, as far as the peer itself goes."""
        acceptor = self._acceptor
        if not asked.speaks_version_1:
            return _Refusal((1, 2, 2), TurnedAway.PROTOCOL, "the protocol version is not 1")
        if not asked.is_dicom:
            return _Refusal((1, 1, 2), TurnedAway.PROTOCOL, "the application context name is not that of DICOM")
        if asked.called_ae_title != acceptor.ae_title:
            return _Refusal((1, 1, 7), TurnedAway.CALLED_AE_TITLE, "Called AE title not recognised")
        if not any(source.admits(asked.calling_ae_title, self.address) for source in acceptor.admitted):
            return _Refusal((1, 1, 3), TurnedAway.NOT_ADMITTED, "calling AE title and address are not admitted")
        if not asked.only_echo and acceptor.refuses():
            return _Refusal((2, 3, 2), TurnedAway.NO_ROOM, "nothing can be stored for the moment")
        return None

    def _serve_all(self, asked: Proposal) -> bytes:
        """Accept, and serve messages until the association ends; tells the receiver how it did. The last word."""
        accepted = acceptance(asked, self._acceptor.contexts, longest_pdu=MAXIMUM_PDU_SIZE)
        self._contexts, self._longest = accepted.contexts, asked.longest_pdu
        self._source = asked.calling_ae_title
        _log_refused_classes(self._source, accepted)
        last_words = b""
        try:
            self._stream.write(accepted.pdu)
            last_words = self._serve(ECHO_IDLE_S if asked.only_echo else IDLE_S)
        except OSError:
            pass  # the connection broke
        finally:
            if self._message is not None and self._message.incoming is not None:
                self._message.incoming.discard()
            self._end_row("released" if last_words == RELEASE_RP else "aborted")
        return last_words

    def _serve(self, idle_s: float) -> bytes:
        """Messages until the peer releases or aborts the association, is silent for too long or gone; the last word."""
        while (pdu := self._next(idle_s)) is not None:
            kind, content = pdu
            if kind == PduType.P_DATA:
                for fragment in fragments(content):
                    self._take(fragment)
            elif kind == PduType.RELEASE_RQ and self._message is None:
                return RELEASE_RP
            elif kind == PduType.ABORT:
                return b""
            else:
                raise BrokenPdu(Reason.UNEXPECTED_PDU, f"a PDU of type {kind} within an association")
        return abort(Reason.NOT_SPECIFIED)

    def _next(self, idle_s: float) -> tuple[PduType, memoryview] | None:
        """The next PDU, of a message that has begun or of none."""
        message = self._message
        if message is None:
            return self._stream.read(idle_s)
        began = time.monotonic()
        pdu = self._stream.read(message.patience_s)
        message.waited_s += time.monotonic() - began
        return pdu

    def _take(self, fragment: Fragment) -> None:
        """One more piece of a message (PS3.8 annex E)."""
        message = self._message or _Message(fragment.context_id)
        if fragment.context_id != message.context_id or fragment.context_id not in self._contexts:
            raise BrokenPdu(Reason.INVALID_PARAMETER, f"presentation context {fragment.context_id} is not in use")
        if fragment.is_command != (message.command is None):
            raise BrokenPdu(Reason.UNEXPECTED_PDU, "command set and data set are not in order")
        self._message = message
        if message.command is None:
            message.encoded += fragment.data
            if len(message.encoded) > LONGEST_COMMAND:
                raise BrokenPdu(Reason.INVALID_PARAMETER, f"a command set exceeds {LONGEST_COMMAND} bytes")
            if fragment.is_last:
                message.command = parse_command(bytes(message.encoded))
                self._begin(message, message.command)
        else:
            self._take_data(message, fragment.data)
            if fragment.is_last:
                self._answer(message, message.command)

    def _begin(self, message: _Message, command: Command) -> None:
        """The command is known: prepare for its data set, or answer it."""
        if not command.has_data_set:
            self._answer(message, command)
            return
        context = self._contexts[message.context_id]
        if command.field == Request.C_STORE:
            try:
                message.incoming = self._receiver.begin(
                    StoreRequest(
                        sop_class_uid=command.uid(Tag.AFFECTED_SOP_CLASS_UID),
                        sop_instance_uid=command.uid(Tag.AFFECTED_SOP_INSTANCE_UID),
                        abstract_syntax_uid=context.abstract_syntax_uid,
                        transfer_syntax_uid=context.transfer_syntax_uid,
                        association_id=self._row_id(),
                        source=self._source,
                    )
                )
            except NotStored as refusal:
                message.refusal = refusal
        elif command.field == Request.N_EVENT_REPORT and context.abstract_syntax_uid == StorageCommitmentPushModel:
            message.incoming = IncomingReport(context.transfer_syntax_uid, self._acceptor.reported)

    def _take_data(self, message: _Message, data: memoryview) -> None:
        message.size += len(data)
        if message.size > self._acceptor.most_bytes:
            raise BrokenPdu(Reason.NOT_SPECIFIED, f"a data set exceeds {self._acceptor.most_bytes} bytes")
        if message.incoming is None:
            return
        try:
            message.incoming.write(data)
        except NotStored as refusal:
            message.refusal = refusal
            message.incoming.discard()
            message.incoming = None

    def _answer(self, message: _Message, command: Command) -> None:
        """The message is whole: one response."""
        if command.field == Request.C_CANCEL:
            self._message = None  # there is nothing to cancel, and nothing to answer
            return
        status, comment = self._outcome(message, command)
        self._message = None
        pdus = command_pdus(message.context_id, response(command, status, comment), longest=self._longest)
        self._stream.write(pdus)

    def _outcome(self, message: _Message, command: Command) -> tuple[int, str]:
        """Status and comment of the response."""
        if command.field == Request.C_ECHO:
            is_verification = command.uid(Tag.AFFECTED_SOP_CLASS_UID) == Verification
            return (DimseStatus.SUCCESS, "") if is_verification else (DimseStatus.NO_SUCH_SOP_CLASS, "not Verification")
        incoming, message.incoming = message.incoming, None
        if message.refusal is not None:
            return message.refusal.status, message.refusal.comment
        if incoming is None and command.field == Request.C_STORE:
            return DimseStatus.CANNOT_UNDERSTAND, "there is no data set"
        if incoming is None:
            return DimseStatus.UNRECOGNIZED_OPERATION, "only C-ECHO, C-STORE and commitment reports are served"
        try:
            incoming.keep()
        except NotStored as refusal:
            return refusal.status, refusal.comment
        except Exception:
            log.exception("store_failed")
            return DimseStatus.INTERNAL_ERROR, "internal error, see the log of ichnode"
        return DimseStatus.SUCCESS, ""

    def _row_id(self) -> int:
        if self._row is None:
            self._row = self._receiver.association_opened(calling_ae_title=self._source, peer=self.address)
        return self._row

    def _end_row(self, ending: str) -> None:
        if self._row is None:
            return
        try:
            self._receiver.association_closed(self._row, ending=ending)
        except Exception:
            log.exception("association_not_closed")


def _log_refused_classes(source: str, accepted: Acceptance) -> None:
    """One line an association: some senders propose every SOP class there is."""
    if accepted.refused_classes:
        named = ", ".join(UID(uid, IGNORE).name for uid in accepted.refused_classes[:_NAMED_CLASSES])
        extra = {"source": source, "count": len(accepted.refused_classes), "detail": named}
        log.log(logging.INFO if accepted.contexts else logging.WARNING, "sop_classes_refused", extra=extra)


def _close(connection: socket.socket) -> None:
    """Close once the peer has read the last word, or after a while: unread bytes would reset the connection."""
    try:
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(_LINGER_S)
            connection.unwrap()
        socket.socket.shutdown(connection, socket.SHUT_WR)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(_LINGER_S * 1e6)))
        until = time.monotonic() + _LINGER_S
        while time.monotonic() < until and socket.socket.recv(connection, 65536):
            pass
    except (OSError, ValueError):
        pass
    finally:
        connection.close()
