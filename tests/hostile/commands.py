"""Command sets (PS3.7 6.3, E.1) element by element, so that each may be missing, empty, doubled or too long."""

import struct

from tests.hostile.pdus import CT_IMAGE, VERIFICATION

GROUP_LENGTH, SOP_CLASS, FIELD, MESSAGE_ID, PRIORITY, DATA_SET_TYPE, STATUS, INSTANCE = (
    *(0x0000, 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x0900, 0x1000),
)
RESPONDED_TO = 0x0120
NO_DATA_SET, SOME_DATA_SET = 0x0101, 0x0001
C_STORE, C_ECHO, C_CANCEL = 0x0001, 0x0030, 0x0FFF
ANSWER = 0x8000  # the bit that makes a response of a request

Value = bytes | int | None


def element(number: int, content: bytes, *, length: int | None = None, group: int = 0) -> bytes:
    return struct.pack("<HHL", group, number, len(content) if length is None else length) + content


def command_set(elements: dict[int, Value], *, tail: bytes = b"", group_length: int | None = None) -> bytes:
    """Elements in the order given; numbers are 16-bit, text is padded to even length, None is left out.

    `tail` follows and is counted. A group length of -1 leaves that element out.
    """
    encoded = b"".join(element(n, _encoded(content)) for n, content in elements.items() if content is not None) + tail
    if group_length == -1:
        return encoded
    return element(GROUP_LENGTH, struct.pack("<L", len(encoded) if group_length is None else group_length)) + encoded


def echo_rq(message_id: int = 1, changes: dict[int, Value] | None = None, **how) -> bytes:
    """A C-ECHO-RQ; `how` is as in `command_set`."""
    asked: dict[int, Value] = {
        SOP_CLASS: VERIFICATION,
        FIELD: C_ECHO,
        MESSAGE_ID: message_id,
        DATA_SET_TYPE: NO_DATA_SET,
    }
    return command_set(asked | (changes or {}), **how)


def store_rq(sop_instance_uid: bytes, changes: dict[int, Value] | None = None, **how) -> bytes:
    """A C-STORE-RQ; `how` is as in `command_set`."""
    asked: dict[int, Value] = {
        SOP_CLASS: CT_IMAGE,
        FIELD: C_STORE,
        MESSAGE_ID: 1,
        PRIORITY: 0,
        DATA_SET_TYPE: SOME_DATA_SET,
        INSTANCE: sop_instance_uid,
    }
    return command_set(asked | (changes or {}), **how)


def parsed(command: bytes) -> dict[int, bytes]:
    """The elements of a well-formed command set, as `ichnode` must write them."""
    elements, at = {}, 0
    while at < len(command):
        group, number, length = struct.unpack_from("<HHL", command, at)
        assert group == 0, command
        elements[number] = command[at + 8 : at + 8 + length]
        at += 8 + length
    assert at == len(command), command
    return elements


def _encoded(content: bytes | int) -> bytes:
    return struct.pack("<H", content) if isinstance(content, int) else content + b"\0" * (len(content) % 2)
