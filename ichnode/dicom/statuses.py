"""DIMSE statuses: what ichnode answers, and what it makes of the answers of others (PS3.4 B.2.3, PS3.7 C)."""

from enum import Enum, IntEnum


class DimseStatus(IntEnum):
    """What a received request is answered: a C-STORE, but for those named."""

    SUCCESS = 0x0000
    INVALID_SOP_INSTANCE = 0x0117  # the SOP Instance UID is not a UID
    NO_SUCH_SOP_CLASS = 0x0122  # C-ECHO of another class than Verification
    UNRECOGNIZED_OPERATION = 0x0211  # neither C-ECHO nor C-STORE
    OUT_OF_RESOURCES = 0xA700  # no room, or file or ledger cannot be written now: send again later
    DOES_NOT_MATCH = 0xA900  # command, context and data set disagree, or Study or Series Instance UID is missing
    CANNOT_UNDERSTAND = 0xC000  # not a complete data set in the negotiated transfer syntax
    OTHER_BYTES_STORED = 0xC001  # other bytes are stored under this SOP Instance UID; these were put aside
    INTERNAL_ERROR = 0xC211  # a fault of ichnode, in its log


class EventReportStatus(IntEnum):
    """What a report on storage commitment is answered (PS3.7 10.1.1.1.8)."""

    SUCCESS = 0x0000  # noted in the ledger
    PROCESSING_FAILURE = 0x0110  # it cannot be read, or not be noted now
    UNKNOWN_TRANSACTION = 0x0115  # invalid argument value: nobody here asked under this Transaction UID


class Verdict(Enum):
    """What a C-STORE response of a destination means for the delivery."""

    DELIVERED = "delivered"
    TRANSIENT = "transient"  # the same may succeed later
    PERMANENT = "permanent"  # the same will never succeed
    UNSUPPORTED = "unsupported"  # nothing of this SOP class will


_SOP_CLASS_NOT_SUPPORTED = 0x0122
_DUPLICATE_SOP_INSTANCE = 0x0111  # a resend after a lost response: it is there
_TRANSIENT = frozenset({0x0110, 0x0213})  # processing failure, resource limitation


def verdict(status: int) -> Verdict:
    """Success, warnings (0001, Bxxx) and "duplicate" count as delivered; A7xx is worth another attempt."""
    if status in (0x0000, 0x0001, _DUPLICATE_SOP_INSTANCE) or status >> 12 == 0xB:
        return Verdict.DELIVERED
    if status >> 8 == 0xA7 or status in _TRANSIENT:
        return Verdict.TRANSIENT
    return Verdict.UNSUPPORTED if status == _SOP_CLASS_NOT_SUPPORTED else Verdict.PERMANENT


_NEVER_COMMITTED = frozenset({0x0119, 0x0122})  # class and instance conflict, SOP class not supported


def commitment_verdict(failure_reason: int) -> Verdict:
    """What a Failure Reason (0008,1197) in a report on storage commitment means (PS3.3 C.14.1.1)."""
    return Verdict.PERMANENT if failure_reason in _NEVER_COMMITTED else Verdict.TRANSIENT
