"""An archive that follows IHE IOCM (RAD-66) in the way of dcm4chee, on a stock pynetdicom SCP.

A rejection note about instances that it has withdraws them; one that names anything else is refused as a whole, with
the statuses of dcm4chee-arc.
"""

from collections.abc import Collection

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, KeyObjectSelectionDocumentStorage
from pynetdicom import AE, evt

TITLES = {"113001", "113037", "113038", "113039"}
NO_SUCH_INSTANCE, CLASS_CONFLICT, ALREADY_REJECTED = 0xA772, 0xA773, 0xA774


class IocmArchive:
    """Listens on a port of its own in a `with` block."""

    def __init__(self, sop_classes: Collection[str]) -> None:
        self.shown: dict[str, Dataset] = {}  # by SOP Instance UID: what a viewer finds
        self.hidden: dict[str, str] = {}  # SOP Instance UID -> code of the title under which it was rejected
        self.answers: list[int] = []  # to rejection notes
        self._ae = AE("PACS")
        for sop_class in {*sop_classes, KeyObjectSelectionDocumentStorage}:
            self._ae.add_supported_context(sop_class, ExplicitVRLittleEndian)

    def __enter__(self):
        self._server = self._ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *_):
        self._server.shutdown()

    def _store(self, event) -> int:
        dataset = event.dataset
        code = dataset.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in dataset else None
        if dataset.SOPClassUID == KeyObjectSelectionDocumentStorage and code in TITLES:
            self.answers.append(self._reject(dataset, code))
            return self.answers[-1]
        self.shown[dataset.SOPInstanceUID] = dataset
        return 0x0000

    def _reject(self, note: Dataset, code: str) -> int:
        named = [
            item
            for study in note.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        ]
        for item in named:
            if item.ReferencedSOPInstanceUID in self.hidden:
                return ALREADY_REJECTED
            if (has := self.shown.get(item.ReferencedSOPInstanceUID)) is None:
                return NO_SUCH_INSTANCE
            if has.SOPClassUID != item.ReferencedSOPClassUID or has.StudyInstanceUID != note.StudyInstanceUID:
                return CLASS_CONFLICT
        for item in named:
            del self.shown[item.ReferencedSOPInstanceUID]
            self.hidden[item.ReferencedSOPInstanceUID] = code
        return 0x0000
