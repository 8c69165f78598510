"""Receive: one C-STORE becomes a durable file and a committed row, or a refusal with a named status."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from ichnode.dicom.scp import StoreRequest
from ichnode.dicom.statuses import StoreStatus
from ichnode.domain.identity import is_uid
from ichnode.domain.study import HeaderValue, Instance
from ichnode.errors import DatasetTooLarge, MalformedDataset, NotStored
from ichnode.imaging.header import scan
from ichnode.imaging.salvage import salvage
from ichnode.metrics import Metrics
from ichnode.storage.files import FileStore
from ichnode.storage.intake import Intake, Kept

log = logging.getLogger(__name__)


class ReceiveStage:
    """What the SCP calls: implements `dicom.scp.Receiver`."""

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
            raise NotStored(StoreStatus.OUT_OF_RESOURCES, "the ledger cannot be written now") from problem

    def association_closed(self, association_id: int, *, ending: str) -> None:
        """Note the ending: a released association is part of the evidence that a study is complete."""
        self._intake.close_association(association_id, ending=ending, at=self._clock())
        self._wake()

    def store(self, request: StoreRequest) -> None:
        """Keep the instance: file fsynced and published, row committed. Raises NotStored."""
        began = time.perf_counter()
        try:
            self._store_instance(request)
        except NotStored as refusal:
            status = f"0x{refusal.status:04X}"
            self._metrics.instances_refused.labels(status).inc()
            extra = {"source": request.source, "status": status, "detail": refusal.comment}
            log.warning("not_stored", extra={**extra, "sop_instance_uid": request.sop_instance_uid})
            raise
        self._metrics.instance_received(request.source)
        self._metrics.stage_seconds.labels("receive").observe(time.perf_counter() - began)

    def _store_instance(self, request: StoreRequest) -> None:
        if not self._store.has_room():
            raise NotStored(StoreStatus.OUT_OF_RESOURCES, "too little free disk space")
        header = self._header(request)
        _check(request, header)
        file = self._keep_file(request, header)
        kept = self._keep_row(request, header, file)
        if kept is Kept.NEW:
            self._metrics.store_bytes.inc(len(request.encoded))
            self._wake()
        elif kept is Kept.DUPLICATE:
            file.unlink()
        else:
            if kept is Kept.KNOWN_CONFLICT:
                file.unlink()
            raise NotStored(StoreStatus.OTHER_BYTES_STORED, "other bytes are stored under this SOP Instance UID")

    def _header(self, request: StoreRequest) -> dict[str, HeaderValue]:
        if not is_uid(request.sop_instance_uid):
            raise NotStored(StoreStatus.INVALID_SOP_INSTANCE, "the Affected SOP Instance UID is not a UID")
        try:
            return scan(request.encoded, request.transfer_syntax_uid)
        except DatasetTooLarge as problem:
            raise NotStored(StoreStatus.OUT_OF_RESOURCES, str(problem)) from None
        except MalformedDataset as problem:
            if not self._lenient:
                raise NotStored(StoreStatus.CANNOT_UNDERSTAND, str(problem)) from None
            return _salvaged(request, str(problem))

    def _keep_file(self, request: StoreRequest, header: dict[str, HeaderValue]) -> Path:
        meta = request.file_header
        header["DataSetOffset"] = len(meta)
        try:
            return self._store.keep((meta, request.encoded))
        except OSError as problem:
            raise NotStored(StoreStatus.OUT_OF_RESOURCES, f"cannot write: {problem.strerror}") from problem

    def _keep_row(self, request: StoreRequest, header: dict[str, HeaderValue], file: Path) -> Kept:
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
        digest = hashlib.sha256(request.transfer_syntax_uid.encode() + b"\0")
        digest.update(request.encoded)
        try:
            return self._intake.keep(instance, sha256=digest.hexdigest(), size_bytes=len(request.encoded))
        except SQLAlchemyError as problem:
            file.unlink(missing_ok=True)
            raise NotStored(StoreStatus.OUT_OF_RESOURCES, "the ledger cannot be written now") from problem


def _salvaged(request: StoreRequest, problem: str) -> dict[str, HeaderValue]:
    """What can be read of a data set that does not parse, marked with the problem."""
    try:
        return {**salvage(request.encoded, request.transfer_syntax_uid), "Malformed": problem}
    except MalformedDataset:
        raise NotStored(StoreStatus.CANNOT_UNDERSTAND, problem) from None


def _check(request: StoreRequest, header: dict[str, HeaderValue]) -> None:
    """Command, presentation context and data set must name the same thing."""
    if request.sop_class_uid != request.abstract_syntax_uid:
        raise NotStored(StoreStatus.DOES_NOT_MATCH, "the SOP class is not that of the presentation context")
    if header.get("SOPClassUID") != request.sop_class_uid:
        raise NotStored(StoreStatus.DOES_NOT_MATCH, "SOP Class UID differs between command and data set")
    if header.get("SOPInstanceUID") != request.sop_instance_uid:
        raise NotStored(StoreStatus.DOES_NOT_MATCH, "SOP Instance UID differs between command and data set")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not is_uid(str(header.get(keyword, ""))):
            raise NotStored(StoreStatus.DOES_NOT_MATCH, f"{keyword} is missing or not a UID")
