"""Receive: one C-STORE becomes a durable file and a committed row, or a refusal with a named status."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from sqlalchemy.exc import SQLAlchemyError

from ichnode.dicom.receiver import StoreRequest
from ichnode.dicom.statuses import DimseStatus
from ichnode.domain.identity import is_uid
from ichnode.domain.study import HeaderValue, Instance
from ichnode.errors import DatasetTooLarge, MalformedDataset, NotStored, Undecided
from ichnode.faults import point
from ichnode.imaging.header import inflated, scan, without_places
from ichnode.imaging.salvage import salvage
from ichnode.metrics import Metrics
from ichnode.storage.dialect import may_be_committed
from ichnode.storage.files import FileStore, Part
from ichnode.storage.intake import Intake, Kept

log = logging.getLogger(__name__)

_LOOK_EVERY_BYTES = 8 * 1024**2  # at what is free, while a long data set comes in
_PIECES_A_LOOK = 32  # ... or is inflated
_SALVAGED_BYTES = 1024**2  # are looked at of what does not parse: pydicom makes 50 times as much of tiny elements


class ReceiveStage:
    """What the SCP calls: implements `dicom.receiver.Receiver`."""

    def __init__(
        self,
        *,
        store: FileStore,
        intake: Intake,
        metrics: Metrics,
        lenient: bool,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._intake = intake
        self._metrics = metrics
        self._lenient = lenient
        self._clock = clock
        self._wake = wake  # the assembling loop

    def association_opened(self, *, calling_ae_title: str, peer: str) -> int:
        """A row for the association; NotStored when the ledger cannot be written."""
        try:
            return self._intake.open_association(calling_ae_title=calling_ae_title, peer=peer, at=self._clock())
        except SQLAlchemyError as problem:
            refusal = NotStored(DimseStatus.OUT_OF_RESOURCES, "the ledger cannot be written now")
            self._tell(refusal, source=calling_ae_title, sop_instance_uid="")
            raise refusal from problem

    def association_closed(self, association_id: int, *, ending: str) -> None:
        """Note the ending: a released association is part of the evidence that a study is complete."""
        self._intake.close_association(association_id, ending=ending, at=self._clock())
        self._wake()

    def begin(self, request: StoreRequest) -> "IncomingInstance":
        """A data set follows; what the command alone shows to be wrong is refused with NotStored."""
        with self.told(request):
            self.must_have_room()
            if not is_uid(request.sop_instance_uid):
                raise NotStored(DimseStatus.INVALID_SOP_INSTANCE, "the Affected SOP Instance UID is not a UID")
            if request.sop_class_uid != request.abstract_syntax_uid:
                raise NotStored(DimseStatus.DOES_NOT_MATCH, "the SOP class is not that of the presentation context")
            with _disk_errors():
                return IncomingInstance(self, request, self._store.begin())

    def must_have_room(self) -> None:
        """Raises NotStored where too little is free."""
        if not self._store.has_room():
            raise NotStored(DimseStatus.OUT_OF_RESOURCES, "too little free disk space")

    @contextmanager
    def told(self, request: StoreRequest) -> Iterator[None]:
        """A refusal is logged and counted."""
        try:
            yield
        except NotStored as refusal:
            self._tell(refusal, source=request.source, sop_instance_uid=request.sop_instance_uid)
            raise

    def _tell(self, refusal: NotStored, *, source: str, sop_instance_uid: str) -> None:
        status = f"0x{refusal.status:04X}"
        self._metrics.instances_refused.labels(status).inc()
        extra = {"source": source, "status": status, "detail": refusal.comment}
        log.warning("not_stored", extra={**extra, "sop_instance_uid": sop_instance_uid})

    def keep(self, request: StoreRequest, part: Part, *, size_bytes: int, sha256: str) -> None:
        """File fsynced and published, row committed. Raises NotStored, and leaves no file then that no row has."""
        began = time.perf_counter()
        try:
            header = self._header(request, part)
            _check(request, header)
            with _disk_errors():
                file = part.publish()
        except BaseException:
            part.discard()
            raise
        point("file_published", request.sop_instance_uid)
        try:
            kept = self._keep_row(request, header, file, size_bytes=size_bytes, sha256=sha256)
        except Undecided as problem:  # the row may still come, so the file stays
            raise NotStored(DimseStatus.OUT_OF_RESOURCES, "the ledger is slow") from problem
        except SQLAlchemyError as problem:
            if not may_be_committed(problem):
                part.discard()
            raise NotStored(DimseStatus.OUT_OF_RESOURCES, "the ledger cannot be written now") from problem
        point("instance_committed", request.sop_instance_uid)
        if kept is Kept.NEW:
            self._metrics.store_bytes.inc(size_bytes)
            self._wake()
        elif kept is Kept.DUPLICATE:
            part.discard()
        elif kept is Kept.MENDED:
            log.warning(
                "instance_mended", extra={"source": request.source, "sop_instance_uid": request.sop_instance_uid}
            )
        else:
            if kept is Kept.KNOWN_CONFLICT:
                part.discard()
            raise NotStored(DimseStatus.OTHER_BYTES_STORED, "other bytes are stored under this SOP Instance UID")
        self._metrics.instance_received(request.source)
        self._metrics.stage_seconds.labels("receive").observe(time.perf_counter() - began)

    def _header(self, request: StoreRequest, part: Part) -> dict[str, HeaderValue]:
        """What routing needs of the data set, and where in the file it begins."""
        start = len(request.file_header)
        with _disk_errors(), part.reading() as content:
            try:
                if request.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
                    header = self._inflated_header(content, start)
                else:
                    header = scan(content, request.transfer_syntax_uid, start=start)
            except DatasetTooLarge as problem:
                raise NotStored(DimseStatus.OUT_OF_RESOURCES, str(problem)) from None
            except MalformedDataset as problem:
                if not self._lenient:
                    raise NotStored(DimseStatus.CANNOT_UNDERSTAND, str(problem)) from None
                header = _salvaged(content[start : start + _SALVAGED_BYTES], request.transfer_syntax_uid, str(problem))
        return header | {"DataSetOffset": start}

    def _inflated_header(self, content: mmap, start: int) -> dict[str, HeaderValue]:
        """Of a deflated data set, by way of the disk: what a small one inflates to need not fit into memory."""
        scratch = self._store.begin()
        try:
            for number, piece in enumerate(inflated(content, start=start)):
                if number % _PIECES_A_LOOK == 0:
                    self.must_have_room()
                scratch.write(piece)
            with scratch.reading() as whole:
                return without_places(scan(whole, ExplicitVRLittleEndian))
        finally:
            scratch.discard()

    def _keep_row(
        self, request: StoreRequest, header: dict[str, HeaderValue], file: Path, *, size_bytes: int, sha256: str
    ) -> Kept:
        instance = Instance(
            sop_instance_uid=request.sop_instance_uid,
            sop_class_uid=request.sop_class_uid,
            series_instance_uid=str(header["SeriesInstanceUID"]),
            study_instance_uid=str(header["StudyInstanceUID"]),
            transfer_syntax_uid=request.transfer_syntax_uid,
            file=str(file),
            header=header,
            association_id=request.association_id,
            received_at=self._clock(),
        )
        return self._intake.keep(instance, sha256=sha256, size_bytes=size_bytes)


class IncomingInstance:
    """A data set on its way into its file: implements `dicom.receiver.Incoming`."""

    def __init__(self, stage: ReceiveStage, request: StoreRequest, part: Part) -> None:
        self.stage, self.request, self._part = stage, request, part
        self._digest = hashlib.sha256(request.transfer_syntax_uid.encode() + b"\0")
        self._size_bytes, self._next_look = 0, _LOOK_EVERY_BYTES
        try:
            with _disk_errors():
                part.write(request.file_header)
        except NotStored:
            part.discard()
            raise

    def write(self, fragment: memoryview) -> None:
        """To the disk at once: memory stays as it is, however large the instance."""
        with self.stage.told(self.request), _disk_errors():
            if self._size_bytes >= self._next_look:
                self.stage.must_have_room()
                self._next_look += _LOOK_EVERY_BYTES
            self._part.write(fragment)
        point("data_set_half_written", self.request.sop_instance_uid)
        self._digest.update(fragment)
        self._size_bytes += len(fragment)

    def keep(self) -> None:
        """Durable file and committed row, or NotStored."""
        with self.stage.told(self.request):
            self.stage.keep(self.request, self._part, size_bytes=self._size_bytes, sha256=self._digest.hexdigest())

    def discard(self) -> None:
        """Nothing stays of it."""
        self._part.discard()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """As refusals."""
    try:
        yield
    except OSError as problem:
        raise NotStored(DimseStatus.OUT_OF_RESOURCES, f"cannot write: {problem.strerror}") from problem


def _salvaged(encoded: bytes, transfer_syntax_uid: str, problem: str) -> dict[str, HeaderValue]:
    """What can be read of a data set that does not parse, marked with the problem."""
    try:
        return {**salvage(encoded, transfer_syntax_uid), "Malformed": problem}
    except MalformedDataset:
        raise NotStored(DimseStatus.CANNOT_UNDERSTAND, problem) from None


def _check(request: StoreRequest, header: dict[str, HeaderValue]) -> None:
    """Command and data set must name the same thing."""
    if header.get("SOPClassUID") != request.sop_class_uid:
        raise NotStored(DimseStatus.DOES_NOT_MATCH, "SOP Class UID differs between command and data set")
    if header.get("SOPInstanceUID") != request.sop_instance_uid:
        raise NotStored(DimseStatus.DOES_NOT_MATCH, "SOP Instance UID differs between command and data set")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not is_uid(str(header.get(keyword, ""))):
            raise NotStored(DimseStatus.DOES_NOT_MATCH, f"{keyword} is missing or not a UID")
