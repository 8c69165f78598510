"""Upper layer PDUs (PS3.8 9.3) byte by byte, so that every field, item and length can be made wrong.

Wherever a `length` may be given, it is what the bytes claim; without it they tell the truth.
"""

import struct

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, LAST = 1, 2  # message control header, PS3.8 E.2

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
VERIFICATION = b"1.2.840.10008.1.1"
CT_IMAGE = b"1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = b"1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE = b"1.2.840.10008.5.1.4.1.1.7"
IMPLICIT = b"1.2.840.10008.1.2"
EXPLICIT = b"1.2.840.10008.1.2.1"
DEFLATED = b"1.2.840.10008.1.2.1.99"
BIG_ENDIAN = b"1.2.840.10008.1.2.2"
RLE = b"1.2.840.10008.1.2.5"


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


def item(kind: int, content: bytes, *, length: int | None = None) -> bytes:
    """An item or sub-item of an A-ASSOCIATE-RQ; a content of more than 64 KiB claims 65535."""
    return struct.pack(">BxH", kind, min(len(content), 0xFFFF) if length is None else length) + content


def context(context_id: int, abstract_syntax: bytes, *transfer_syntaxes: bytes) -> bytes:
    """A presentation context item."""
    syntaxes = b"".join(item(0x40, syntax) for syntax in transfer_syntaxes)
    return item(0x20, bytes([context_id, 0, 0, 0]) + item(0x30, abstract_syntax) + syntaxes)


def maximum_length(value: int) -> bytes:
    return item(0x51, struct.pack(">L", value))


IMPLEMENTATION_CLASS = item(0x52, b"1.2.3.4")
USER_INFORMATION = item(0x50, maximum_length(131072) + IMPLEMENTATION_CLASS)
APPLICATION = item(0x10, APPLICATION_CONTEXT)

# the presentation contexts of an ordinary hostile peer
ECHO, CT, CT_IMPLICIT, CT_DEFLATED, CAPTURE, MR, CT_BIG_ENDIAN, CT_RLE = range(1, 17, 2)
CONTEXTS = b"".join(
    (
        context(ECHO, VERIFICATION, IMPLICIT),
        context(CT, CT_IMAGE, EXPLICIT),
        context(CT_IMPLICIT, CT_IMAGE, IMPLICIT),
        context(CT_DEFLATED, CT_IMAGE, DEFLATED),
        context(CAPTURE, SECONDARY_CAPTURE, EXPLICIT),
        context(MR, MR_IMAGE, EXPLICIT),
        context(CT_BIG_ENDIAN, CT_IMAGE, BIG_ENDIAN),
        context(CT_RLE, CT_IMAGE, RLE),
    )
)
ONLY_ECHO = context(ECHO, VERIFICATION, IMPLICIT)


def associate_body(
    *items: bytes, called: bytes = b"ICHNODE", calling: bytes = b"HOSTILE", version: int = 1, reserved: int = 0
) -> bytes:
    """What follows the header of an A-ASSOCIATE-RQ; without `items`, the ordinary ones."""
    fixed = struct.pack(">HH", version, reserved) + called.ljust(16) + calling.ljust(16) + bytes([reserved & 0xFF] * 32)
    return fixed + (b"".join(items) or APPLICATION + CONTEXTS + USER_INFORMATION)


def associate_rq(*items: bytes, length: int | None = None, **fields) -> bytes:
    """An A-ASSOCIATE-RQ; `fields` are those of `associate_body`."""
    return pdu(ASSOCIATE_RQ, associate_body(*items, **fields), length=length)


def proposing(*contexts: bytes, user: bytes = USER_INFORMATION) -> bytes:
    """An A-ASSOCIATE-RQ that is in order, but for its presentation contexts or its user information."""
    return associate_rq(APPLICATION, *contexts, user)


def user_items(*sub_items: bytes) -> bytes:
    """An A-ASSOCIATE-RQ in order, but for what stands in its user information."""
    return proposing(CONTEXTS, user=item(0x50, b"".join(sub_items)))


def value(context_id: int, control: int, fragment: bytes, *, length: int | None = None) -> bytes:
    """A presentation data value."""
    return struct.pack(">LBB", len(fragment) + 2 if length is None else length, context_id, control) + fragment


def data(*values: bytes, length: int | None = None) -> bytes:
    return pdu(DATA, b"".join(values), length=length)


def message(context_id: int, command: bytes, data_set: bytes | None = None, *, fragment: int = 100_000) -> bytes:
    """Command and data set as P-DATA-TF PDUs of one value each."""
    pdus = [_fragments(context_id, COMMAND, command, fragment)]
    if data_set is not None:
        pdus.append(_fragments(context_id, 0, data_set, fragment))
    return b"".join(pdus)


def _fragments(context_id: int, control: int, content: bytes, size: int) -> bytes:
    starts = range(0, len(content), size) or (0,)
    return b"".join(
        data(value(context_id, control | (LAST if at + size >= len(content) else 0), content[at : at + size]))
        for at in starts
    )


RELEASE = pdu(RELEASE_RQ, bytes(4))
ABORTED = pdu(ABORT, bytes(4))
