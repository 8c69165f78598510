"""What the storage SCP calls for each C-STORE: the stages implement it, and know nothing of the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ichnode.dicom.part10 import part10_header


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """The command of one C-STORE, before its data set has come. Its words are as received, and unchecked."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax_uid: str  # of the presentation context it came on
    transfer_syntax_uid: str
    association_id: int
    source: str  # calling AE title

    @property
    def file_header(self) -> bytes:
        """Preamble and file meta information: followed by the encoded data set, a DICOM file."""
        return part10_header(
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )


class Incoming(Protocol):
    """A data set that is arriving. Either `keep` or `discard` ends it."""

    def write(self, fragment: memoryview) -> None:
        """The next bytes as encoded, valid during the call. Raises NotStored; then only `discard` follows."""

    def keep(self) -> None:
        """It is complete; returning is the promise that it is durable. Raises NotStored."""

    def discard(self) -> None:
        """Forget it: the association broke, or it was refused. Never raises."""


class Receiver(Protocol):
    """What the SCP calls, from a thread for each association."""

    def association_opened(self, *, calling_ae_title: str, peer: str) -> int:
        """The first C-STORE of an association; returns the id that its requests will carry. Raises NotStored."""

    def association_closed(self, association_id: int, *, ending: str) -> None:
        """An association that stored something was "released" or "aborted"."""

    def begin(self, request: StoreRequest) -> Incoming:
        """A data set follows. Raises NotStored where it need not be looked at."""


class InMemory:
    """An incoming data set that is held until it is whole, for receivers of small objects."""

    def __init__(self, request: StoreRequest, take: Callable[[bytes], None]) -> None:
        self._file = bytearray(request.file_header)
        self._take = take  # gets a DICOM file; raises NotStored

    def write(self, fragment: memoryview) -> None:
        """Hold it."""
        self._file += fragment

    def keep(self) -> None:
        """Hand it on."""
        self._take(bytes(self._file))

    def discard(self) -> None:
        """Nothing is left of it."""
