"""A PACS for tests: a storage SCP in this process that remembers what it took, and can be made to misbehave."""

import threading
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from ichnode.dicom.receiver import InMemory, StoreRequest
from ichnode.dicom.scp import StorageSCP
from ichnode.errors import NotStored


class Pacs:
    """Listens on a port of its own from the start of a `with` block to its end."""

    def __init__(self, *, answers: list[int] | None = None, port: int = 0) -> None:
        self.answers = answers or []  # statuses for the first instances; then success
        self.taken: list[Dataset] = []  # in order, resends included
        self._arrived = threading.Condition()
        self._scp = StorageSCP(self, ae_title="PACS", host="127.0.0.1", port=port, max_associations=8)
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
