"""Command sets (PS3.7 6.3, 9.3 and annex E): Implicit VR Little Endian elements of group 0000, and nothing else."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from ichnode.dicom.pdu import BrokenPdu, Reason

LONGEST_COMMAND = 64 * 1024  # bytes
NO_DATA_SET = 0x0101
_LONGEST_UID = 64
_RESPONSE = 0x8000  # added to the command field of a request


class Request(IntEnum):
    """Command fields that ichnode acts on (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    C_CANCEL = 0x0FFF  # has no response


class Tag(IntEnum):
    """Elements of group 0000 that ichnode reads or writes, by element number."""

    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A received request."""

    field: int
    message_id: int
    has_data_set: bool
    elements: Mapping[int, bytes]

    def uid(self, tag: Tag) -> str:
        """A UID as it came, without its padding; "" where there is none. It need not be one."""
        return self.elements.get(tag, b"").decode("latin-1").rstrip("\0 ")


def parse_command(encoded: bytes) -> Command:
    """A request from its command set. Raises BrokenPdu where it is none that can be answered."""
    elements: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise _broken("ends inside the header of an element")
        group, element, length = struct.unpack_from("<HHL", encoded, position)
        position += 8
        if group != 0:
            raise _broken(f"has an element of group {group:04X}")
        if length > len(encoded) - position:
            raise _broken(f"claims {length} bytes for element {element:04X}, {len(encoded) - position} are left")
        elements[element] = encoded[position : position + length]
        position += length
    field, data_set_type = _number(elements, Tag.COMMAND_FIELD), _number(elements, Tag.COMMAND_DATA_SET_TYPE)
    if field & _RESPONSE:
        raise _broken(f"is a response (0x{field:04X}), and nothing was asked")
    message_id = 0 if field == Request.C_CANCEL else _number(elements, Tag.MESSAGE_ID)  # it names another message
    return Command(field=field, message_id=message_id, has_data_set=data_set_type != NO_DATA_SET, elements=elements)


def response(request: Command, status: int, comment: str = "") -> bytes:
    """The command set that answers `request`, without a data set. `comment`: at most 64 characters of it are sent."""
    elements = [
        (Tag.AFFECTED_SOP_CLASS_UID, _first(request, Tag.AFFECTED_SOP_CLASS_UID, Tag.REQUESTED_SOP_CLASS_UID)),
        (Tag.COMMAND_FIELD, struct.pack("<H", request.field | _RESPONSE)),
        (Tag.MESSAGE_ID_BEING_RESPONDED_TO, struct.pack("<H", request.message_id)),
        (Tag.COMMAND_DATA_SET_TYPE, struct.pack("<H", NO_DATA_SET)),
        (Tag.STATUS, struct.pack("<H", status)),
        (Tag.ERROR_COMMENT, comment[:64].encode("ascii", "replace")),
        (Tag.AFFECTED_SOP_INSTANCE_UID, _first(request, Tag.AFFECTED_SOP_INSTANCE_UID, Tag.REQUESTED_SOP_INSTANCE_UID)),
    ]
    if request.field == Request.N_EVENT_REPORT:
        elements.append((Tag.EVENT_TYPE_ID, request.elements.get(Tag.EVENT_TYPE_ID, b"")))
    encoded = b"".join(struct.pack("<HHL", 0, tag, len(padded)) + padded for tag, padded in _padded(elements))
    return struct.pack("<HHLL", 0, 0, 4, len(encoded)) + encoded


def _number(elements: Mapping[int, bytes], tag: Tag) -> int:
    value = elements.get(tag, b"")
    if len(value) != 2:
        raise _broken(f"has no {tag.name.replace('_', ' ').capitalize()}")
    return int.from_bytes(value, "little")


def _first(request: Command, *tags: Tag) -> bytes:
    """The first UID that there is; none that is too long to be one, which the peer could stumble over."""
    return next((uid for tag in tags if 0 < len(uid := request.elements.get(tag, b"")) <= _LONGEST_UID), b"")


def _padded(elements: list[tuple[Tag, bytes]]) -> list[tuple[Tag, bytes]]:
    """To even lengths; what is empty is left out."""
    padding = {Tag.ERROR_COMMENT: b" "}
    return [(tag, value + padding.get(tag, b"\0") * (len(value) % 2)) for tag, value in elements if value]


def _broken(detail: str) -> BrokenPdu:
    return BrokenPdu(Reason.NOT_SPECIFIED, f"a command set {detail}")
