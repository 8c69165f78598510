"""PDUs, command sets and negotiation as bytes: what is allowed, and that nothing else gets further than BrokenPdu."""

import socket
import struct
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom.pdu import A_ASSOCIATE_AC

from ichnode.dicom.command import Request, Tag, parse_command, response
from ichnode.dicom.contexts import accepted_contexts
from ichnode.dicom.negotiation import BLANK, acceptance, proposal
from ichnode.dicom.pdu import (
    BrokenPdu,
    PduStream,
    PduType,
    Reason,
    abort,
    command_pdus,
    fragments,
    rejection,
)
from tests.hostile import pdus
from tests.hostile.commands import element, parsed
from tests.hostile.pdus import item, pdu

VERIFICATION = "1.2.840.10008.1.1"
GOOD = pdus.associate_body()


def command(field=0x0001, message_id=b"\7\0", data_set=b"\0\0", **more):
    elements = {0x0100: struct.pack("<H", field), 0x0110: message_id, 0x0800: data_set} | more.get("elements", {})
    return b"".join(element(number, value) for number, value in elements.items() if value is not None)


@pytest.fixture
def connected():
    """Two ends of a connection."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_pdus_are_read_whole_however_they_are_cut_and_the_buffer_is_used_again(connected):
    ours, theirs = connected
    reader = PduStream(ours, longest=300_000)
    for size in (0, 1, 200_000, 300_000, 5, 299_999, 70_000):
        content = bytes([size % 251]) * size
        sender = Thread(target=theirs.sendall, args=(pdu(4, content),))
        sender.start()
        kind, got = reader.read(5)
        assert (kind, bytes(got)) == (PduType.P_DATA, content)
    sender.join()
    theirs.sendall(pdu(5, b"\0" * 4)[:7])
    theirs.close()
    assert reader.read(5) is None


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\x47\x45\x54\x20\x2f\x20", Reason.UNRECOGNIZED_PDU),
        (b"\0\0\0\0\0\0", Reason.UNRECOGNIZED_PDU),
        (struct.pack(">BxL", 4, 0xFFFFFFFF), Reason.INVALID_PARAMETER),
        (struct.pack(">BxL", 4, 1001), Reason.INVALID_PARAMETER),
        (struct.pack(">BxL", 5, 5), Reason.INVALID_PARAMETER),
    ],
)
def test_a_pdu_is_refused_by_its_head(connected, head, reason):
    ours, theirs = connected
    theirs.sendall(head)
    with pytest.raises(BrokenPdu) as refused:
        PduStream(ours, longest=1000).read(5)
    assert refused.value.reason is reason


def test_who_reads_learns_of_giving_up_as_of_an_end(connected):
    ours, _ = connected
    reader = PduStream(ours, longest=1000)
    reader.give_up()
    assert reader.read(5) is None


def test_a_command_set_is_cut_into_what_the_peer_reads():
    encoded = bytes(range(200))
    whole = command_pdus(3, encoded, longest=0)
    assert len(whole) == 212
    pieces, position = [], 0
    cut = command_pdus(3, encoded, longest=100)
    while position < len(cut):
        (length,) = struct.unpack_from(">L", cut, position + 2)
        assert length <= 100
        pieces += fragments(memoryview(cut)[position + 6 : position + 6 + length])
        position += 6 + length
    assert b"".join(piece.data for piece in pieces) == encoded
    assert [piece.is_last for piece in pieces] == [False, False, True]
    assert all(piece.is_command and piece.context_id == 3 for piece in pieces)


def test_a_response_names_what_it_answers():
    request = parse_command(
        command(elements={0x0002: CTImageStorage.encode(), 0x1000: b"1.2.3\0", 0x0110: b"\7\0", 0x0100: b"\1\0"})
    )
    assert (request.field, request.message_id, request.has_data_set) == (Request.C_STORE, 7, True)
    assert request.uid(Tag.AFFECTED_SOP_INSTANCE_UID) == "1.2.3"
    encoded = response(request, 0xA700, "no room" * 20)
    length = struct.unpack_from("<L", encoded, 8)[0]
    assert length == len(encoded) - 12
    found = parsed(encoded)
    assert list(found) == sorted(found)
    assert found[0x0100] == b"\1\x80"
    assert found[0x0120] == b"\7\0"
    assert found[0x0900] == b"\0\xa7"
    assert len(found[0x0902]) == 64
    assert found[0x1000] == b"1.2.3\0"


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        command(message_id=None),
        command(message_id=b"\7"),
        command(data_set=None),
        command(field=0x8001),
        command() + b"\0\0\0",
        command() + struct.pack("<HHL", 0, 0x1000, 50),
        command() + struct.pack("<HHL", 8, 0x0018, 0),
    ],
    ids=["nothing", "no id", "odd id", "no type", "response", "half a header", "too long", "another group"],
)
def test_a_command_set_that_cannot_be_answered_is_broken(encoded):
    with pytest.raises(BrokenPdu):
        parse_command(encoded)


def asked(*contexts, titles=(b"ICHNODE", b"CT"), version=1, application=pdus.APPLICATION_CONTEXT):
    called, calling = titles
    items = item(0x10, application), *contexts, pdus.USER_INFORMATION
    return pdus.associate_body(*items, called=called, calling=calling, version=version)


def context(number, abstract, *syntaxes):
    syntaxes = syntaxes or (ExplicitVRLittleEndian,)
    return pdus.context(number, abstract.encode(), *(syntax.encode() for syntax in syntaxes))


def test_contexts_get_what_is_supported_and_the_rest_its_reason():
    request = proposal(
        asked(
            context(1, CTImageStorage, ImplicitVRLittleEndian),
            context(3, MRImageStorage),
            context(5, CTImageStorage, "1.2.840.10008.1.2.4.100"),
        )
    )
    answer = acceptance(request, accepted_contexts(), longest_pdu=131072)
    assert {n: c.transfer_syntax_uid for n, c in answer.contexts.items()} == {1: ImplicitVRLittleEndian}
    assert answer.refused_classes == [MRImageStorage]
    decoded = A_ASSOCIATE_AC()
    decoded.decode(answer.pdu)
    assert [c.result for c in decoded.presentation_context] == [0, 3, 4]
    assert decoded.user_information.maximum_length == 131072


def test_only_verification_makes_an_association_that_can_only_echo():
    assert proposal(asked(context(1, VERIFICATION), context(3, VERIFICATION))).only_echo
    assert not proposal(asked(context(1, VERIFICATION), context(3, CTImageStorage))).only_echo


@pytest.mark.parametrize(
    ("request_", "speaks_version_1", "is_dicom"),
    [
        (asked(context(1, VERIFICATION)), True, True),
        (asked(context(1, VERIFICATION), version=3), True, True),
        (asked(context(1, VERIFICATION), version=2), False, True),
        (asked(context(1, VERIFICATION), application=b"1.2.3"), True, False),
    ],
    ids=["DICOM", "version 1 among others", "another version", "another application"],
)
def test_what_is_not_dicom_is_told_apart(request_, speaks_version_1, is_dicom):
    found = proposal(request_)
    assert (found.speaks_version_1, found.is_dicom) == (speaks_version_1, is_dicom)


def test_titles_that_devices_pad_and_leave_blank_are_readable():
    request = proposal(asked(context(1, VERIFICATION), titles=(b"ICHNODE\0junk", bytes(16))))
    assert (request.called_ae_title, request.calling_ae_title) == ("ICHNODE", BLANK)


@pytest.mark.parametrize(
    "content",
    [
        GOOD[:60],
        GOOD[:-1],
        GOOD + b"\0",
        asked(),
        asked(context(2, VERIFICATION)),
        asked(context(1, VERIFICATION), context(1, CTImageStorage)),
        asked(*(context(1 + 2 * (n % 128), VERIFICATION) for n in range(200))),
    ],
    ids=["short", "cut", "long", "no context", "even id", "an id twice", "200 contexts"],
)
def test_a_request_that_does_not_add_up_is_broken(content):
    with pytest.raises(BrokenPdu):
        proposal(content)


@given(st.data())
def test_no_change_of_a_request_does_more_than_break_it(data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        answer = acceptance(proposal(bytes(content)), accepted_contexts(), longest_pdu=131072)
    except BrokenPdu:
        return
    assert answer.pdu[0] == PduType.ASSOCIATE_AC


@given(st.binary(max_size=400))
def test_any_bytes_are_a_command_set_or_broken(encoded):
    try:
        request = parse_command(encoded)
    except BrokenPdu:
        return
    assert response(request, 0x0211)[:4] == b"\0\0\0\0"


@given(st.binary(max_size=200))
def test_any_content_of_a_data_pdu_is_fragments_or_broken(content):
    try:
        found = list(fragments(memoryview(content)))
    except BrokenPdu:
        return
    assert sum(6 + len(fragment.data) for fragment in found) == len(content)


def test_a_data_pdu_of_nothing_is_broken():
    with pytest.raises(BrokenPdu, match="no presentation data value"):
        list(fragments(memoryview(b"")))


def test_aborts_and_rejections_are_as_ps3_8_draws_them():
    assert abort(Reason.UNEXPECTED_PDU) == bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, 2])
    assert rejection(2, 3, 2) == bytes([3, 0, 0, 0, 0, 4, 0, 2, 3, 2])
