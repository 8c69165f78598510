"""A-ASSOCIATE-RQs with every field, item and length wrong (PS3.8 9.3.2, annex D).

Each is decided: accepted, rejected, aborted or closed, and never left without an answer (guarantees 1, 3 and 6).
"""

import struct

import pytest

from tests.hostile import pdus
from tests.hostile.data_sets import ct_image
from tests.hostile.pdus import (
    APPLICATION,
    CONTEXTS,
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    ONLY_ECHO,
    USER_INFORMATION,
    VERIFICATION,
)
from tests.hostile.peer import DECIDED, ENDED, REFUSED

BODY = pdus.associate_body()
ECHO_SYNTAX = pdus.item(0x40, IMPLICIT)


def raw_context(content: bytes, **how) -> bytes:
    """A presentation context item of these sub-items, with id 1."""
    return pdus.item(0x20, b"\1\0\0\0" + content, **how)


def sub_items(*extra: bytes) -> bytes:
    """An ordinary request, with more in its user information."""
    return pdus.user_items(pdus.maximum_length(16384), pdus.IMPLEMENTATION_CLASS, *extra)


def role(uid: bytes, scu: int, scp: int, *, uid_length: int | None = None) -> bytes:
    length = len(uid) if uid_length is None else uid_length
    return pdus.item(0x54, struct.pack(">H", length) + uid + bytes([scu, scp]))


def identity(kind: int, primary: bytes, secondary: bytes = b"", *, primary_length: int | None = None) -> bytes:
    length = len(primary) if primary_length is None else primary_length
    content = bytes([kind, 0]) + struct.pack(">H", length) + primary + struct.pack(">H", len(secondary)) + secondary
    return pdus.item(0x58, content)


LENGTHS_THAT_LIE = {
    "application context of no length": pdus.associate_rq(pdus.item(0x10, b""), CONTEXTS, USER_INFORMATION),
    "application context that claims 0": pdus.associate_rq(
        pdus.item(0x10, pdus.APPLICATION_CONTEXT, length=0), CONTEXTS, USER_INFORMATION
    ),
    "application context that claims one less": pdus.associate_rq(
        pdus.item(0x10, pdus.APPLICATION_CONTEXT, length=20), CONTEXTS, USER_INFORMATION
    ),
    "application context that claims one more": pdus.associate_rq(
        pdus.item(0x10, pdus.APPLICATION_CONTEXT, length=22), CONTEXTS, USER_INFORMATION
    ),
    "application context that claims 65535": pdus.associate_rq(
        pdus.item(0x10, pdus.APPLICATION_CONTEXT, length=65535), CONTEXTS, USER_INFORMATION
    ),
    "presentation context of no length": pdus.proposing(pdus.item(0x20, b"")),
    "presentation context of two bytes": pdus.proposing(pdus.item(0x20, b"\1\0")),
    "presentation context that claims one less": pdus.proposing(
        raw_context(pdus.item(0x30, VERIFICATION) + ECHO_SYNTAX, length=45)
    ),
    "presentation context that claims 65535": pdus.proposing(
        raw_context(pdus.item(0x30, VERIFICATION) + ECHO_SYNTAX, length=65535)
    ),
    "abstract syntax that claims 0": pdus.proposing(raw_context(pdus.item(0x30, VERIFICATION, length=0) + ECHO_SYNTAX)),
    "abstract syntax that claims 65535": pdus.proposing(
        raw_context(pdus.item(0x30, VERIFICATION, length=65535) + ECHO_SYNTAX)
    ),
    "abstract syntax that reaches over the transfer syntax": pdus.proposing(
        raw_context(pdus.item(0x30, VERIFICATION, length=30) + ECHO_SYNTAX)
    ),
    "transfer syntax that claims 0": pdus.proposing(
        raw_context(pdus.item(0x30, VERIFICATION) + pdus.item(0x40, IMPLICIT, length=0))
    ),
    "transfer syntax that claims one more": pdus.proposing(
        raw_context(pdus.item(0x30, VERIFICATION) + pdus.item(0x40, IMPLICIT, length=18))
    ),
    "user information that claims 0": pdus.proposing(
        CONTEXTS, user=pdus.item(0x50, pdus.maximum_length(16384), length=0)
    ),
    "user information that claims one less": pdus.proposing(
        CONTEXTS, user=pdus.item(0x50, pdus.maximum_length(16384), length=7)
    ),
    "user information that claims 65535": pdus.proposing(
        CONTEXTS, user=pdus.item(0x50, pdus.maximum_length(16384), length=65535)
    ),
    "maximum length of 0 bytes": pdus.user_items(pdus.item(0x51, b""), pdus.IMPLEMENTATION_CLASS),
    "maximum length of 2 bytes": pdus.user_items(pdus.item(0x51, b"\x40\0"), pdus.IMPLEMENTATION_CLASS),
    "maximum length of 5 bytes": pdus.user_items(pdus.item(0x51, b"\0\0\x40\0\0"), pdus.IMPLEMENTATION_CLASS),
    "maximum length that claims 65535 bytes": pdus.user_items(pdus.item(0x51, b"\0\0\x40\0", length=65535)),
    "implementation class of no length": pdus.user_items(pdus.maximum_length(16384), pdus.item(0x52, b"")),
    "asynchronous operations of one byte": sub_items(pdus.item(0x53, b"\0")),
    "role selection of no length": sub_items(pdus.item(0x54, b"")),
    "role selection whose UID claims more": sub_items(role(CT_IMAGE, 1, 0, uid_length=500)),
    "role selection without roles": sub_items(pdus.item(0x54, struct.pack(">H", len(CT_IMAGE)) + CT_IMAGE)),
    "extended negotiation whose UID claims more": sub_items(pdus.item(0x56, b"\xff\xff" + CT_IMAGE)),
    "common extended negotiation whose lists claim more": sub_items(
        pdus.item(0x57, struct.pack(">H", len(CT_IMAGE)) + CT_IMAGE + b"\xff\xff\xff\xff")
    ),
    "user identity whose name claims more": sub_items(identity(1, b"harry", primary_length=60000)),
    "user identity of one byte": sub_items(pdus.item(0x58, b"\1")),
    "a last item of three bytes": pdus.associate_rq(APPLICATION, CONTEXTS, USER_INFORMATION, b"\x51\0\0"),
    "no items at all": pdus.pdu(pdus.ASSOCIATE_RQ, BODY[:68]),
    "67 bytes": pdus.pdu(pdus.ASSOCIATE_RQ, BODY[:67]),
    "10 bytes": pdus.pdu(pdus.ASSOCIATE_RQ, BODY[:10]),
    "no bytes": pdus.pdu(pdus.ASSOCIATE_RQ, b""),
}

ITEMS_AMISS = {
    "no application context": pdus.associate_rq(CONTEXTS, USER_INFORMATION),
    "two application contexts": pdus.associate_rq(APPLICATION, APPLICATION, CONTEXTS, USER_INFORMATION),
    "no presentation context": pdus.proposing(),
    "no user information": pdus.associate_rq(APPLICATION, CONTEXTS),
    "user information before everything": pdus.associate_rq(USER_INFORMATION, APPLICATION, CONTEXTS),
    "user information twice": pdus.associate_rq(APPLICATION, CONTEXTS, USER_INFORMATION, USER_INFORMATION),
    "user information of no items": pdus.user_items(),
    "no maximum length": pdus.user_items(pdus.IMPLEMENTATION_CLASS),
    "two maximum lengths": sub_items(pdus.maximum_length(1000)),
    "no implementation class": pdus.user_items(pdus.maximum_length(16384)),
    "two implementation classes": sub_items(pdus.IMPLEMENTATION_CLASS),
    "context without abstract syntax": pdus.proposing(raw_context(ECHO_SYNTAX)),
    "context with two abstract syntaxes": pdus.proposing(
        raw_context(pdus.item(0x30, VERIFICATION) + pdus.item(0x30, CT_IMAGE) + ECHO_SYNTAX)
    ),
    "context without transfer syntax": pdus.proposing(pdus.context(1, VERIFICATION)),
    "context of nothing but its id": pdus.proposing(raw_context(b"")),
    "context with 1000 transfer syntaxes": pdus.proposing(pdus.context(1, VERIFICATION, *[IMPLICIT] * 1000)),
    "context id 0": pdus.proposing(pdus.context(0, VERIFICATION, IMPLICIT)),
    "context id 2": pdus.proposing(pdus.context(2, VERIFICATION, IMPLICIT)),
    "context id 254": pdus.proposing(ONLY_ECHO, pdus.context(254, CT_IMAGE, EXPLICIT)),
    "the same context twice": pdus.proposing(ONLY_ECHO, ONLY_ECHO),
    "one context id for two classes": pdus.proposing(ONLY_ECHO, pdus.context(1, CT_IMAGE, EXPLICIT)),
    "200 contexts": pdus.proposing(*(pdus.context(n, CT_IMAGE, EXPLICIT) for n in range(1, 201))),
    "1000 contexts of one id": pdus.proposing(*[pdus.context(1, CT_IMAGE, EXPLICIT)] * 1000),
    "item of type 00": pdus.associate_rq(APPLICATION, CONTEXTS, pdus.item(0, b"abcd"), USER_INFORMATION),
    "item of type 99": pdus.associate_rq(APPLICATION, CONTEXTS, pdus.item(0x99, b"abcd"), USER_INFORMATION),
    "item of an A-ASSOCIATE-AC": pdus.associate_rq(
        APPLICATION, pdus.item(0x21, b"\1\0\0\0" + ECHO_SYNTAX), USER_INFORMATION
    ),
    "sub-item of type 7F": sub_items(pdus.item(0x7F, b"abcd")),
    "sub-item of user identity response": sub_items(pdus.item(0x59, b"\0\0")),
    "role selection for a class that was not proposed": sub_items(role(b"1.2.3.4.5", 1, 1)),
    "role selection twice": sub_items(role(CT_IMAGE, 1, 0), role(CT_IMAGE, 0, 1)),
    "role selection of neither role": sub_items(role(CT_IMAGE, 0, 0)),
    "role selection with roles 255": sub_items(role(CT_IMAGE, 255, 255)),
    "role selection, the requestor as SCP only": sub_items(role(CT_IMAGE, 0, 1)),
    "asynchronous operations, unlimited": sub_items(pdus.item(0x53, bytes(4))),
    "asynchronous operations, 65535": sub_items(pdus.item(0x53, b"\xff" * 4)),
    "user identity: name": sub_items(identity(1, b"harry")),
    "user identity: name and passcode": sub_items(identity(2, b"harry", b"secret")),
    "user identity: no Kerberos ticket": sub_items(identity(3, b"\0\1\2")),
    "user identity: no SAML assertion": sub_items(
        identity(4, b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>")
    ),
    "user identity: of type 0": sub_items(identity(0, b"harry")),
    "user identity: of type 255": sub_items(identity(255, b"harry")),
    "user identity: 60,000 bytes": sub_items(identity(2, b"h" * 60000, b"p")),
    "user identity: not UTF-8": sub_items(identity(1, b"\xff\xfe\0")),
    "implementation version of 300 characters": sub_items(pdus.item(0x55, b"V" * 300)),
    "implementation version of no characters": sub_items(pdus.item(0x55, b"")),
    "implementation version that is not ASCII": sub_items(pdus.item(0x55, b"\xff\xfe\n\x1b[2J")),
    "implementation class of 65 characters": pdus.user_items(
        pdus.maximum_length(16384), pdus.item(0x52, b"1." + b"2" * 63)
    ),
    "implementation class that is no UID": pdus.user_items(pdus.maximum_length(16384), pdus.item(0x52, b"ACME ../..")),
    "extended negotiation of 60,000 bytes": sub_items(
        pdus.item(0x56, struct.pack(">H", len(CT_IMAGE)) + CT_IMAGE + bytes(60000))
    ),
    "abstract syntax of no characters": pdus.proposing(pdus.context(1, b"", IMPLICIT)),
    "abstract syntax of 65 characters": pdus.proposing(pdus.context(1, b"1." + b"2" * 63, IMPLICIT)),
    "abstract syntax of 300 characters": pdus.proposing(pdus.context(1, b"1." + b"2" * 298, IMPLICIT)),
    "abstract syntax that is a path": pdus.proposing(pdus.context(1, b"../../etc/passwd", IMPLICIT)),
    "abstract syntax that is not ASCII": pdus.proposing(pdus.context(1, b"\xff\xfe\x80", IMPLICIT)),
    "transfer syntax of 300 characters": pdus.proposing(pdus.context(1, VERIFICATION, b"1." + b"2" * 298)),
    "transfer syntax that is not ASCII": pdus.proposing(pdus.context(1, VERIFICATION, b"\xff\xfe\x80")),
    "1 MiB of unknown items": pdus.associate_rq(
        APPLICATION, CONTEXTS, USER_INFORMATION, (pdus.item(0x99, bytes(1020))) * 1023
    ),
    "calling title that is not ASCII": pdus.associate_rq(calling=b"\xff\xfe\x80"),
    "calling title of NULs": pdus.associate_rq(calling=bytes(16)),
    "calling title that clears the screen": pdus.associate_rq(calling=b"\x1b[2J\nroot: ok"),
    "protocol version 0": pdus.associate_rq(version=0),
    "protocol version 3": pdus.associate_rq(version=3),
    "protocol version FFFF": pdus.associate_rq(version=0xFFFF),
}

TOO_LONG = {
    "over 1 MiB of unknown items": pdus.associate_rq(
        APPLICATION, CONTEXTS, USER_INFORMATION, pdus.item(0x99, bytes(1020)) * 1024
    ),
    "20 MiB of contexts": pdus.proposing(pdus.context(1, CT_IMAGE, EXPLICIT) * 300_000),
}


def rows(table):
    return [pytest.param(request, id=name) for name, request in table.items()]


@pytest.mark.parametrize("request_pdu", rows(LENGTHS_THAT_LIE | ITEMS_AMISS))
def test_a_request_amiss_is_decided(connect, request_pdu):
    assert connect().ask(request_pdu).kind in DECIDED


@pytest.mark.parametrize("request_pdu", rows(TOO_LONG))
def test_a_request_of_more_than_1_mib_is_refused(connect, request_pdu):
    assert connect().ask(request_pdu).kind in ENDED


@pytest.mark.parametrize(
    ("request_pdu", "rejection"),
    [
        pytest.param(pdus.associate_rq(called=b"SOMEONE"), (1, 1, 7), id="a called title that is not ours"),
        pytest.param(pdus.associate_rq(called=b"ichnode"), (1, 1, 7), id="our title in small letters"),
        pytest.param(pdus.associate_rq(called=b"ICHNODE2"), (1, 1, 7), id="a called title that begins like ours"),
        pytest.param(pdus.associate_rq(called=b" " * 16), (1, 1, 7), id="a blank called title"),
        pytest.param(pdus.associate_rq(called=bytes(16)), (1, 1, 7), id="a called title of NULs"),
        pytest.param(pdus.associate_rq(called=b"\xff" * 16), (1, 1, 7), id="a called title that is not ASCII"),
        pytest.param(pdus.associate_rq(version=2), (1, 2, 2), id="a protocol version that is not 1"),
        pytest.param(
            pdus.associate_rq(pdus.item(0x10, b"1.2.3.4"), CONTEXTS, USER_INFORMATION),
            (1, 1, 2),
            id="an application context that is not DICOM's",
        ),
    ],
)
def test_a_rejection_names_the_reason(connect, request_pdu, rejection):
    assert connect().ask(request_pdu).rejection == rejection


@pytest.mark.parametrize(
    ("contexts", "results"),
    [
        pytest.param((pdus.context(1, pdus.MR_IMAGE, EXPLICIT),), {1: 3}, id="an unknown class"),
        pytest.param((pdus.context(1, b"1.2.3.4.5.6.7", EXPLICIT),), {1: 3}, id="a private class"),
        pytest.param((pdus.context(1, CT_IMAGE, b"1.2.840.10008.1.2.4.100"),), {1: 4}, id="a syntax we do not take"),
        pytest.param((pdus.context(1, CT_IMAGE, b"9.9.9"),), {1: 4}, id="a private syntax"),
        pytest.param((pdus.context(1, CT_IMAGE, b"9.9.9", EXPLICIT),), {1: 0}, id="a private syntax and a good one"),
        pytest.param(
            tuple(pdus.context(n, CT_IMAGE, EXPLICIT) for n in range(1, 256, 2)),
            dict.fromkeys(range(1, 256, 2), 0),
            id="128 contexts",
        ),
        pytest.param((pdus.context(255, VERIFICATION, IMPLICIT),), {255: 0}, id="the highest id"),
    ],
)
def test_each_context_gets_its_result(connect, contexts, results):
    assert connect().ask(pdus.proposing(*contexts)).context_results == results


@pytest.mark.parametrize(
    "request_pdu",
    [
        pytest.param(pdus.associate_rq(reserved=0xFFFF), id="reserved fields that are not zero"),
        pytest.param(pdus.associate_rq(called=b"  ICHNODE"), id="leading spaces in the called title"),
        pytest.param(pdus.associate_rq(called=b"ICHNODE\0"), id="NULs behind the called title"),
        pytest.param(pdus.associate_rq(calling=b"A"), id="a calling title of one letter"),
        pytest.param(sub_items(pdus.item(0x55, b"V1")), id="an implementation version"),
        pytest.param(sub_items(pdus.item(0x53, b"\0\1\0\1")), id="asynchronous operations of 1"),
        pytest.param(sub_items(role(CT_IMAGE, 1, 0)), id="role selection of the default role"),
        pytest.param(pdus.user_items(pdus.maximum_length(0), pdus.IMPLEMENTATION_CLASS), id="no limit to PDUs"),
        pytest.param(
            pdus.user_items(pdus.maximum_length(0xFFFFFFFF), pdus.IMPLEMENTATION_CLASS), id="PDUs of up to 4 GiB"
        ),
        pytest.param(
            pdus.proposing(ONLY_ECHO, *(pdus.context(n, pdus.MR_IMAGE, EXPLICIT) for n in range(3, 256, 2))),
            id="127 contexts that we do not take",
        ),
    ],
)
def test_what_is_odd_but_lawful_is_accepted_and_echoes(connect, request_pdu):
    assert connect().associate(request_pdu).echo().outcome == 0x0000


@pytest.mark.parametrize("limit", [4096, 128, 64, 20])
def test_answers_keep_to_the_peer_s_limit_of_a_pdu(connect, limit):
    peer = connect().associate(pdus.user_items(pdus.maximum_length(limit), pdus.IMPLEMENTATION_CLASS))
    image = ct_image()
    for answer in (peer.echo(), peer.store(pdus.CT, image.uid, image.encoded()), peer.store(pdus.CT, image.uid, b"?")):
        assert answer.kind == "response"
        assert answer.longest_pdu <= limit


@pytest.mark.parametrize("limit", [1, 6, 7])
def test_a_limit_that_hardly_fits_a_value_is_refused_or_its_messages_are_answered(connect, limit):
    peer = connect()
    if peer.ask(pdus.user_items(pdus.maximum_length(limit), pdus.IMPLEMENTATION_CLASS)).kind not in REFUSED:
        assert peer.echo().outcome in {0x0000, *ENDED}


def test_a_second_request_inside_an_association_is_aborted(peer):
    assert peer.ask(pdus.associate_rq()).kind in ENDED


# whether the first is already accepted when the second PDU is seen is a matter of chance: PS3.8 table 9-10, Sta3, Sta6
def test_two_requests_in_one_breath_end_in_an_abort(connect):
    peer = connect().send(pdus.associate_rq() * 2)
    assert peer.answer().kind in ENDED or peer.answer().kind in ENDED


def test_a_request_and_a_release_in_one_breath_end_in_a_release_or_an_abort(connect):
    peer = connect().send(pdus.associate_rq() + pdus.RELEASE)
    assert peer.answer().kind in ENDED or peer.answer().kind in {*ENDED, "released"}


def test_a_request_in_single_bytes_is_accepted(connect):
    peer = connect()
    for byte in pdus.associate_rq():
        peer.send(bytes([byte]))
    assert peer.answer().kind == "accepted"
