"""DIMSE messages of every kind and in every disorder, on an association that is in order (PS3.7 6.3, 9.3, annex E).

Every request gets exactly one response or an A-ABORT (guarantee 7); what is stored in spite of it was in order.
"""

import struct

import pytest

from tests.hostile import commands, pdus
from tests.hostile.commands import (
    C_CANCEL,
    C_ECHO,
    C_STORE,
    DATA_SET_TYPE,
    FIELD,
    INSTANCE,
    MESSAGE_ID,
    NO_DATA_SET,
    PRIORITY,
    SOME_DATA_SET,
    SOP_CLASS,
    command_set,
    echo_rq,
    element,
    store_rq,
)
from tests.hostile.data_sets import ct_image
from tests.hostile.pdus import COMMAND, CT, ECHO, LAST, data, message, value
from tests.hostile.peer import ENDED, Peer

WHOLE = COMMAND | LAST
IMAGE = ct_image()
DATA_SET = IMAGE.encoded()
STORE = store_rq(IMAGE.uid)

REQUESTS = {
    "C-GET": 0x0010,
    "C-FIND": 0x0020,
    "C-MOVE": 0x0021,
    "N-EVENT-REPORT": 0x0100,
    "N-GET": 0x0110,
    "N-SET": 0x0120,
    "N-ACTION": 0x0130,
    "N-CREATE": 0x0140,
    "N-DELETE": 0x0150,
    "no command 0000": 0x0000,
    "no command 0002": 0x0002,
    "no command 0031": 0x0031,
    "no command 7FFF": 0x7FFF,
}
RESPONSES = {
    name: field | commands.ANSWER
    for name, field in {
        "C-STORE-RSP": 0x0001,
        "C-GET-RSP": 0x0010,
        "C-FIND-RSP": 0x0020,
        "C-MOVE-RSP": 0x0021,
        "C-ECHO-RSP": 0x0030,
        "N-GET-RSP": 0x0110,
        "N-CREATE-RSP": 0x0140,
        "no response FFFF": 0x7FFF,
    }.items()
}


@pytest.mark.parametrize("context_id", [ECHO, CT])
@pytest.mark.parametrize("field", [pytest.param(field, id=name) for name, field in REQUESTS.items()])
def test_a_service_that_we_do_not_offer_is_refused_once(peer, context_id, field):
    assert peer.ask(message(context_id, store_rq(IMAGE.uid, {FIELD: field, DATA_SET_TYPE: NO_DATA_SET}))).refused
    assert peer.in_step()


@pytest.mark.parametrize("field", [pytest.param(field, id=name) for name, field in RESPONSES.items()])
def test_a_response_to_nothing_is_ignored_or_ends_the_association(peer, field):
    answered = {commands.RESPONDED_TO: 1, DATA_SET_TYPE: NO_DATA_SET, commands.STATUS: 0}
    peer.send(message(CT, store_rq(IMAGE.uid, {FIELD: field, MESSAGE_ID: None, **answered})))
    assert peer.in_step()


@pytest.mark.parametrize("responded_to", [1, 0xFFFF, None])
def test_a_cancel_of_nothing_is_ignored(peer, responded_to):
    cancel = {FIELD: C_CANCEL, commands.RESPONDED_TO: responded_to, DATA_SET_TYPE: NO_DATA_SET}
    peer.send(message(CT, command_set(cancel)))
    assert peer.echo(message_id=9).responds_to == 9


# a C-STORE whose command lacks or spoils what a response needs: refused in one way or the other
SPOILED_STORES = {
    "no SOP class": store_rq(IMAGE.uid, {SOP_CLASS: None}),
    "an empty SOP class": store_rq(IMAGE.uid, {SOP_CLASS: b""}),
    "a SOP class of 65 characters": store_rq(IMAGE.uid, {SOP_CLASS: b"1." + b"2" * 63}),
    "a SOP class of 300 characters": store_rq(IMAGE.uid, {SOP_CLASS: b"1." + b"2" * 298}),
    "a SOP class that is not ASCII": store_rq(IMAGE.uid, {SOP_CLASS: b"\xff\xfe\x80\x81"}),
    "no instance": store_rq(IMAGE.uid, {INSTANCE: None}),
    "an empty instance": store_rq(b""),
    "no message ID": store_rq(IMAGE.uid, {MESSAGE_ID: None}),
    "an empty message ID": store_rq(IMAGE.uid, {MESSAGE_ID: b""}),
    "no command field": store_rq(IMAGE.uid, {FIELD: None}),
    "an empty command field": store_rq(IMAGE.uid, {FIELD: b""}),
    "no elements": command_set({}),
    "a group length alone": element(0, bytes(4)),
    "zero bytes": b"",
    "one byte": b"\0",
    "seven bytes": bytes(7),
    "noise": b"\xde\xad\xbe\xef" * 40,
    "text": b"C-STORE-RQ please",
    "an element that claims more than the set has": store_rq(IMAGE.uid, tail=element(0x1030, b"CT", length=5000)),
    "an element that claims 4 GiB": store_rq(IMAGE.uid, tail=element(0x1030, b"CT", length=0xFFFFFFFF)),
    "a last element cut off": store_rq(IMAGE.uid)[:-9],
    "explicit VR": b"\0\0\0\0UL\4\0\x10\0\0\0" + b"\0\0\0\1US\2\0\1\0" + b"\0\0\x10\1US\2\0\1\0",
    "big endian": struct.pack(">HHLH", 0, 0x0100, 2, 1) + struct.pack(">HHLH", 0, 0x0110, 2, 1),
}


@pytest.mark.parametrize("command", [pytest.param(command, id=name) for name, command in SPOILED_STORES.items()])
def test_a_store_whose_command_is_spoiled_is_refused_once(peer, command):
    assert peer.ask(message(CT, command, DATA_SET)).refused
    assert peer.in_step()


# a C-STORE whose command is odd, but says what is needed: stored or refused, and answered once
ODD_STORES = {
    "no group length": {"group_length": -1},
    "a group length of 0": {"group_length": 0},
    "a group length that is too short": {"group_length": 30},
    "a group length of 4 GiB": {"group_length": 0xFFFFFFFF},
    "no priority": {"changes": {PRIORITY: None}},
    "an empty priority": {"changes": {PRIORITY: b""}},
    "a priority that there is not": {"changes": {PRIORITY: 0xFFFF}},
    "no data set type": {"changes": {DATA_SET_TYPE: None}},
    "an empty data set type": {"changes": {DATA_SET_TYPE: b""}},
    "a data set type that there is not": {"changes": {DATA_SET_TYPE: 0xABCD}},
    "a message ID of 4 bytes": {"changes": {MESSAGE_ID: b"\1\0\0\0"}},
    "a message ID of 0": {"changes": {MESSAGE_ID: 0}},
    "a message ID of 65535": {"changes": {MESSAGE_ID: 0xFFFF}},
    "a priority of 1 MB": {"changes": {PRIORITY: bytes(1_000_000)}},
    "the message ID twice": {"tail": element(MESSAGE_ID, b"\2\0")},
    "the instance twice": {"tail": element(INSTANCE, b"1.2.3.4.")},
    "the command field twice": {"tail": element(FIELD, b"\x30\0")},
    "a move originator": {"tail": element(0x1030, b"MOVER   ") + element(0x1031, b"\1\0")},
    "an error comment": {"tail": element(0x0902, b"\x1b[2J\n\0\xff")},
    "a status": {"tail": element(0x0900, b"\0\0")},
    "an element of another group": {"tail": element(0x0016, b"1.2.3.4.", group=8)},
    "an element that there is not": {"tail": element(0x7777, b"what?")},
    "10,000 elements": {"tail": element(0x7777, b"") * 10_000},
    "trailing zeros": {"tail": bytes(40)},
}


@pytest.mark.parametrize("how", [pytest.param(how, id=name) for name, how in ODD_STORES.items()])
def test_a_store_whose_command_is_odd_is_answered_once(peer, how):
    image = ct_image()
    answer = peer.store(CT, image.uid, image.encoded(), **how)
    assert answer.outcome == 0x0000 or answer.refused
    assert peer.in_step()


ODD_ECHOES = {
    "on the context of another class": message(CT, echo_rq()),
    "with the class of another context": message(ECHO, echo_rq(changes={SOP_CLASS: pdus.CT_IMAGE})),
    "without class": message(ECHO, echo_rq(changes={SOP_CLASS: None})),
    "without message ID": message(ECHO, echo_rq(changes={MESSAGE_ID: None})),
    "with a data set": message(ECHO, echo_rq(changes={DATA_SET_TYPE: SOME_DATA_SET}), DATA_SET),
    "in explicit VR on an implicit context": message(ECHO, b"\0\0\0\1US\2\0\x30\0"),
    "as a store on the echo's context": message(ECHO, store_rq(IMAGE.uid), DATA_SET),
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in ODD_ECHOES.items()])
def test_an_odd_echo_is_answered_once(peer, content):
    assert peer.ask(content).kind in {"response", *ENDED}
    assert peer.in_step()


FRAGMENT = value(CT, 0, DATA_SET)
DISORDER = {
    "a data set before any command": data(value(CT, LAST, DATA_SET)),
    "a data set before its command": data(value(CT, LAST, DATA_SET)) + data(value(CT, WHOLE, STORE)),
    "a fragment of data between those of the command": (
        data(value(CT, COMMAND, STORE[:30])) + data(FRAGMENT) + data(value(CT, WHOLE, STORE[30:]))
    ),
    "a command between the fragments of the data set": (
        data(value(CT, WHOLE, STORE)) + data(FRAGMENT) + data(value(CT, WHOLE, STORE))
    ),
    "a command on one context and its data set on another": (
        data(value(CT, WHOLE, STORE)) + data(value(pdus.CT_IMPLICIT, LAST, DATA_SET))
    ),
    "a command in fragments on two contexts": (
        data(value(CT, COMMAND, STORE[:30])) + data(value(pdus.CT_IMPLICIT, WHOLE, STORE[30:]))
    ),
    "a context that was not accepted": message(pdus.MR, STORE, DATA_SET),
    "a context that was never proposed": message(101, STORE, DATA_SET),
    "an even context": message(2, STORE, DATA_SET),
    "context 0": message(0, STORE, DATA_SET),
    "a second echo inside a store": data(value(CT, WHOLE, STORE)) + message(ECHO, echo_rq()),
    "a store that says it has no data set, and sends one": message(
        CT, store_rq(IMAGE.uid, {DATA_SET_TYPE: NO_DATA_SET}), DATA_SET
    ),
    "a store without a data set": message(CT, store_rq(IMAGE.uid, {DATA_SET_TYPE: NO_DATA_SET})),
    "a store with a data set of no bytes": message(CT, STORE, b""),
    "a command of 8 MiB": message(CT, store_rq(IMAGE.uid, tail=element(0x7777, bytes(1 << 23))), DATA_SET),
    "a command that does not end": data(value(CT, COMMAND, bytes(1 << 16))) * 200,
    "a release inside a command": data(value(CT, COMMAND, STORE[:30])) + pdus.RELEASE,
    "a release inside a data set": data(value(CT, WHOLE, STORE)) + data(FRAGMENT) + pdus.RELEASE,
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in DISORDER.items()])
def test_a_message_in_disorder_is_refused(peer, content):
    assert peer.ask(content).refused or peer.answer().kind in ENDED


PDUS_AMISS = {
    "a PDU without values": data(),
    "a value of length 0": data(struct.pack(">L", 0)),
    "a value of length 1": data(struct.pack(">LB", 1, CT)),
    "a header of a value cut off": data(b"\0\0"),
    "a value that claims one byte more than its PDU": data(value(CT, WHOLE, STORE, length=len(STORE) + 3)),
    "a value that claims one byte less than its PDU": data(value(CT, WHOLE, STORE, length=len(STORE) + 1)),
    "a value that claims 4 GiB": data(value(CT, WHOLE, STORE, length=0xFFFFFFFF)),
    "three bytes behind the last value": data(value(CT, WHOLE, STORE), b"abc"),
    "a PDU of 4 GiB": data(value(CT, WHOLE, STORE), length=0xFFFFFFFF),
    "a PDU of 300 KiB more than was agreed": data(value(CT, WHOLE, STORE), value(CT, 0, bytes(450 << 10))),
    "an A-ASSOCIATE-AC": pdus.pdu(pdus.ASSOCIATE_AC, pdus.associate_body()),
    "an A-ASSOCIATE-RJ": pdus.pdu(pdus.ASSOCIATE_RJ, b"\0\1\1\1"),
    "an A-RELEASE-RP": pdus.pdu(pdus.RELEASE_RP, bytes(4)),
    "a release of no length": pdus.pdu(pdus.RELEASE_RQ, b""),
    "a release of 4 GiB": pdus.pdu(pdus.RELEASE_RQ, bytes(4), length=0xFFFFFFFF),
    "a release of 100 KiB": pdus.pdu(pdus.RELEASE_RQ, bytes(100 << 10)),
    "an abort of no length": pdus.pdu(pdus.ABORT, b""),
    "PDU type 00": pdus.pdu(0x00, bytes(4)),
    "PDU type 08": pdus.pdu(0x08, bytes(4)),
    "PDU type FF": pdus.pdu(0xFF, bytes(4)),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in PDUS_AMISS.items()])
def test_a_pdu_amiss_inside_an_association_ends_it_or_changes_nothing(peer, content):
    answer = peer.ask(content + message(ECHO, echo_rq()))
    assert answer.kind in {*ENDED, "released"} or answer.outcome == 0x0000


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(message(CT, STORE, DATA_SET, fragment=1), id="one byte a PDU"),
        pytest.param(
            data(*(value(CT, COMMAND, STORE[n : n + 1]) for n in range(len(STORE) - 1)), value(CT, WHOLE, STORE[-1:]))
            + data(*(value(CT, 0, DATA_SET[n : n + 1]) for n in range(len(DATA_SET))), value(CT, LAST, b"")),
            id="one byte a value, and an empty last one",
        ),
        pytest.param(data(value(CT, WHOLE, STORE), value(CT, LAST, DATA_SET)), id="command and data set in one PDU"),
        pytest.param(
            data(value(CT, COMMAND, b"")) * 500 + message(CT, STORE, DATA_SET), id="500 empty fragments before"
        ),
    ],
)
def test_a_store_in_odd_but_lawful_pieces_is_stored_byte_for_byte(node, peer, content):
    assert peer.ask(content).outcome == 0x0000
    assert node.stored(IMAGE.uid) == DATA_SET
    assert peer.in_step()


MOMENTS = {
    "before a message": b"",
    "inside a command": data(value(CT, COMMAND, STORE[:30])),
    "behind a command": data(value(CT, WHOLE, STORE)),
    "inside a data set": data(value(CT, WHOLE, STORE)) + data(value(CT, 0, DATA_SET[:300])),
    "inside a PDU": message(CT, STORE, DATA_SET)[:-50],
    "behind a message": message(CT, STORE, DATA_SET),
    "behind a hundred messages": message(CT, STORE, DATA_SET) * 100,
}
ENDINGS = {
    "an abort": lambda peer: peer.send(pdus.ABORTED),
    "a reset": Peer.reset,
    "a close": Peer.close,
    "a half-close": Peer.finish,
}


@pytest.mark.parametrize("end", [pytest.param(end, id=name) for name, end in ENDINGS.items()])
@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in MOMENTS.items()])
def test_an_association_may_end_in_every_way_at_every_moment(peer, sent, end):
    end(peer.send(sent))


def test_a_peer_that_says_no_more_is_let_go_at_once_and_an_answer_is_not_forgotten(peer):
    peer.send(message(CT, STORE, DATA_SET)).finish()
    assert peer.answer().outcome == 0x0000
    assert peer.answer(within_s=3).kind in ENDED


def test_300_requests_that_wait_for_no_answer_are_answered_each_once_and_in_order(peer):
    peer.send(b"".join(message(ECHO, echo_rq(n)) for n in range(1, 301)) + pdus.RELEASE)
    answers = [peer.answer() for _ in range(300)]
    assert [(a.outcome, a.responds_to) for a in answers] == [(0x0000, n) for n in range(1, 301)]
    assert peer.answer().kind == "released"


def test_a_peer_that_reads_no_answers_does_no_harm(peer):
    peer.socket.settimeout(1)
    try:
        for _ in range(3000):
            peer.socket.sendall(message(ECHO, echo_rq()) * 20)
    except OSError:
        pass  # the node stopped reading, or let the peer go: either is right


def test_an_echo_names_its_message_and_class(peer):
    answer = peer.echo(message_id=4711)
    assert answer.responds_to == 4711
    assert answer.command[FIELD] == struct.pack("<H", C_ECHO | commands.ANSWER)
    assert answer.command[SOP_CLASS].rstrip(b"\0") == pdus.VERIFICATION


def test_a_store_names_its_message_class_and_instance(peer):
    image = ct_image()
    answer = peer.store(CT, image.uid, image.encoded(), changes={MESSAGE_ID: 4711})
    assert answer.responds_to == 4711
    assert answer.command[FIELD] == struct.pack("<H", C_STORE | commands.ANSWER)
    assert answer.command[SOP_CLASS].rstrip(b"\0") == pdus.CT_IMAGE
    assert answer.command[INSTANCE].rstrip(b"\0") == image.uid
