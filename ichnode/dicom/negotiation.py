"""Negotiation of an association: an A-ASSOCIATE-RQ becomes an acceptance or a rejection (PS3.8 9.3.2-4, PS3.7 D.3).

pynetdicom decodes, negotiates presentation contexts and encodes. What it does not survive is kept from it: lengths
that do not add up are refused before, titles that it cannot read are cleaned, and whatever it raises is a broken PDU.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from ichnode import __version__
from ichnode.dicom.pdu import BrokenPdu, PduType, Reason
from ichnode.domain.identity import IMPLEMENTATION_CLASS_UID, clean_ae_title

IMPLEMENTATION_VERSION_NAME = f"ICHNODE_{__version__}"[:16]
BLANK = "(blank)"  # stands for an AE title of spaces or NULs; contains no valid configured title
_FIXED_BYTES = 68  # protocol version, titles and reserved ones: PS3.8 table 9-11
_CALLED, _CALLING = slice(4, 20), slice(20, 36)
_MOST_ITEMS = 130  # an application context, 128 presentation contexts, user information


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a peer asks for."""

    called_ae_title: str
    calling_ae_title: str
    speaks_version_1: bool  # of the upper layer's protocol
    is_dicom: bool  # by the application context
    only_echo: bool  # no other SOP class is proposed
    longest_pdu: int  # that the peer reads; 0: any
    primitive: Any  # pynetdicom's A_ASSOCIATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What is answered: the PDU, and what it promises."""

    pdu: bytes
    contexts: Mapping[int, Context]  # by presentation context ID
    refused_classes: Sequence[str]  # SOP classes of which no context was accepted, in order


def proposal(content: bytes | memoryview) -> Proposal:
    """What the content of an A-ASSOCIATE-RQ asks for. Raises BrokenPdu."""
    _check_items(content)
    readable = bytearray(content)
    for title in (_CALLED, _CALLING):
        readable[title] = _readable(bytes(readable[title]))
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(struct.pack(">BxL", PduType.ASSOCIATE_RQ, len(readable)) + bytes(readable))
        primitive: Any = pdu.to_primitive()
        contexts = primitive.presentation_context_definition_list
        classes, numbers = {str(c.abstract_syntax) for c in contexts}, [c.context_id for c in contexts]
        called, calling = str(primitive.called_ae_title), str(primitive.calling_ae_title)
        lengths = [i for i in primitive.user_information if isinstance(i, MaximumLengthNotification)]
    except Exception as problem:  # pynetdicom and pydicom have no list of what they raise here
        raise BrokenPdu(Reason.INVALID_PARAMETER, f"A-ASSOCIATE-RQ: {type(problem).__name__}") from problem
    if not numbers or len(set(numbers)) < len(numbers):
        raise BrokenPdu(Reason.INVALID_PARAMETER, "A-ASSOCIATE-RQ: no presentation context, or two of one ID")
    return Proposal(
        called_ae_title=called.strip(),
        calling_ae_title=calling.strip(),
        speaks_version_1=bool(content[1] & 1),
        is_dicom=primitive.application_context_name == APPLICATION_CONTEXT_NAME,
        only_echo=classes == {str(Verification)},
        longest_pdu=lengths[0].maximum_length_received if lengths else 0,
        primitive=primitive,
    )


def acceptance(asked: Proposal, supported: list[PresentationContext], *, longest_pdu: int) -> Acceptance:
    """What `supported` makes of a proposal. Raises BrokenPdu for one that cannot be answered."""
    request = asked.primitive
    try:
        roles: Any = {
            item.sop_class_uid: (item.scu_role, item.scp_role)
            for item in request.user_information
            if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
        }
        results, role_answers = negotiate_as_acceptor(
            request.presentation_context_definition_list, supported, roles or None
        )
        answer: Any = A_ASSOCIATE()
        answer.application_context_name = UID(APPLICATION_CONTEXT_NAME)
        answer.calling_ae_title, answer.called_ae_title = request.calling_ae_title, request.called_ae_title
        answer.result, answer.result_source = 0, 1
        answer.presentation_context_definition_results_list = results
        answer.user_information = [*_about_us(longest_pdu), *role_answers]
        pdu: Any = A_ASSOCIATE_AC()
        pdu.from_primitive(answer)
        encoded = bytes(pdu.encode())
    except Exception as problem:
        raise BrokenPdu(Reason.INVALID_PARAMETER, f"A-ASSOCIATE-RQ: {type(problem).__name__}") from problem
    accepted = {int(c.context_id or 0): c for c in results if c.result == 0}
    known = {str(c.abstract_syntax) for c in accepted.values()}
    return Acceptance(
        pdu=encoded,
        contexts={
            number: Context(
                abstract_syntax_uid=str(context.abstract_syntax), transfer_syntax_uid=str(context.transfer_syntax[0])
            )
            for number, context in accepted.items()
        },
        refused_classes=sorted({str(c.abstract_syntax) for c in results} - known),
    )


def _about_us(longest_pdu: int) -> list[Any]:
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    version = ImplementationVersionNameNotification()
    length.maximum_length_received = longest_pdu
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]


def _check_items(content: bytes | memoryview) -> None:
    """Every item ends where the next begins, the last where the PDU ends, and there are not too many."""
    if len(content) < _FIXED_BYTES:
        raise BrokenPdu(Reason.INVALID_PARAMETER, f"A-ASSOCIATE-RQ has {len(content)} bytes")
    position, items = _FIXED_BYTES, 0
    while position < len(content):
        if position + 4 > len(content):
            raise BrokenPdu(Reason.INVALID_PARAMETER, "A-ASSOCIATE-RQ ends inside the header of an item")
        position += 4 + int.from_bytes(content[position + 2 : position + 4], "big")
        items += 1
    if position != len(content) or items > _MOST_ITEMS:
        raise BrokenPdu(Reason.INVALID_PARAMETER, f"A-ASSOCIATE-RQ: {items} items that do not fit it")


def _readable(title: bytes) -> bytes:
    """A title that pynetdicom can decode: text before the first NUL, other unprintable bytes as "?"."""
    text = clean_ae_title(title.decode("latin-1"))
    printable = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
    return (printable or BLANK).ljust(16).encode("ascii")
