"""Bytes that are no association: other protocols, noise, PDUs out of turn, lengths that lie, peers that vanish.

Expected is A-ABORT or the end of the connection (guarantee 1), before anything is allocated (guarantee 3).
"""

import random
from contextlib import suppress

import pytest

from tests.hostile import pdus
from tests.hostile.data_sets import ct_image
from tests.hostile.peer import ENDED

HUGE = 0xFFFFFFFF
ONE_MIB = 1 << 20
NOISE = random.Random(20261127)
TLS_HELLO = bytes.fromhex(
    "16030100a5010000a10303"
    + "5a" * 32
    + "20"
    + "a5" * 32
    + "0008130213031301c02f01000050002b0003020304000a00040002001d000d0006000404030804"
    + "00330026002400 1d0020".replace(" ", "")
    + "c3" * 32
)

FOREIGN = {
    "HTTP GET": b"GET / HTTP/1.1\r\nHost: ichnode\r\n\r\n",
    "HTTP POST with a body": b"POST /instances HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 5000,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS client hello": TLS_HELLO,
    "SSH banner": b"SSH-2.0-OpenSSH_9.9\r\n",
    "SMTP": b"EHLO scanner\r\n",
    "Telnet negotiation": b"\xff\xfd\x03\xff\xfb\x18\xff\xfb\x1f",
    "SMB negotiate": b"\0\0\0\x54\xffSMB\x72" + bytes(79),
    "RDP connection request": bytes.fromhex("0300001300e00000000000010008000b000000"),
    "PROXY protocol before the request": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + pdus.associate_rq(),
    "PROXY protocol 2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
    "HL7 over MLLP": b"\x0bMSH|^~\\&|RIS|HOSPITAL|ICHNODE|||ORM^O01|1|P|2.3\r\x1c\r",
    "a DICOM file": bytes(128) + b"DICM" + ct_image().encoded(),
    "a data set": ct_image().encoded(),
    "a line of text": b"hello?\n",
    "one kibibyte of noise": NOISE.randbytes(1 << 10),
    "one mebibyte of noise": b"\x99" + NOISE.randbytes(ONE_MIB),
    "64 KiB of zeros": bytes(1 << 16),
    "64 KiB of ones": b"\xff" * (1 << 16),
}

OUT_OF_TURN = {
    "A-ASSOCIATE-AC": pdus.pdu(pdus.ASSOCIATE_AC, pdus.associate_body()),
    "A-ASSOCIATE-RJ": pdus.pdu(pdus.ASSOCIATE_RJ, b"\0\1\1\1"),
    "P-DATA-TF": pdus.data(pdus.value(1, 3, b"\0" * 20)),
    "P-DATA-TF without a value": pdus.data(),
    "A-RELEASE-RQ": pdus.RELEASE,
    "A-RELEASE-RP": pdus.pdu(pdus.RELEASE_RP, bytes(4)),
    "A-ABORT": pdus.ABORTED,
    "PDU type 00": pdus.pdu(0x00, bytes(4)),
    "PDU type 08": pdus.pdu(0x08, bytes(4)),
    "PDU type FF": pdus.pdu(0xFF, bytes(4)),
    "PDU type 08 of no length": pdus.pdu(0x08, b""),
    "a good request after a PDU of an unknown type": pdus.pdu(0x42, bytes(4)) + pdus.associate_rq(),
}

LYING_LENGTHS = {
    f"{name} claims {length:#x} bytes": pdus.pdu(kind, bytes(100), length=length)
    for name, kind, length in [
        ("A-ASSOCIATE-RQ", pdus.ASSOCIATE_RQ, HUGE),
        ("A-ASSOCIATE-RQ", pdus.ASSOCIATE_RQ, 0x7FFFFFFF),
        ("A-ASSOCIATE-RQ", pdus.ASSOCIATE_RQ, ONE_MIB + 1),
        ("A-ASSOCIATE-AC", pdus.ASSOCIATE_AC, HUGE),
        ("A-ASSOCIATE-RJ", pdus.ASSOCIATE_RJ, HUGE),
        ("P-DATA-TF", pdus.DATA, HUGE),
        ("A-RELEASE-RQ", pdus.RELEASE_RQ, HUGE),
        ("A-ABORT", pdus.ABORT, HUGE),
        ("PDU type 99", 0x99, HUGE),
    ]
}


def rows(table):
    return [pytest.param(content, id=name) for name, content in table.items()]


@pytest.mark.parametrize("content", rows(FOREIGN | OUT_OF_TURN | LYING_LENGTHS))
def test_what_is_no_association_is_aborted_or_closed(connect, content):
    assert connect().ask(content).kind in ENDED


HALVES = {
    "nothing": b"",
    "one byte": b"\1",
    "half a header": b"\1\0\0",
    "a header alone": pdus.associate_rq()[:6],
    "half a request": pdus.associate_rq()[:200],
    "a request without its last byte": pdus.associate_rq()[:-1],
    "half of another protocol": TLS_HELLO[:4],
}


@pytest.mark.parametrize("content", rows(HALVES))
def test_a_peer_that_sends_a_part_and_no_more_is_let_go_at_once(connect, content):
    peer = connect().send(content)
    peer.finish()
    assert peer.answer(within_s=3).kind in ENDED


@pytest.mark.parametrize("content", rows({**HALVES, "a whole request": pdus.associate_rq()}))
def test_a_peer_that_resets_the_connection_does_no_harm(connect, content):
    connect().send(content).reset()


def test_a_peer_that_keeps_sending_under_a_length_of_4_gib_is_cut_off_before_32_mib_and_costs_no_memory(node, connect):
    before_mb = node.forget_peak()
    peer = connect()
    peer.socket.sendall(pdus.pdu(pdus.ASSOCIATE_RQ, b"", length=HUGE))
    peer.socket.settimeout(5)
    taken_mib = 0
    with suppress(OSError):
        for _ in range(32):
            peer.socket.sendall(bytes(ONE_MIB))
            taken_mib += 1
    assert taken_mib < 32
    assert node.peak_rss_mb() - before_mb < 16


def test_a_thousand_lines_of_http_on_one_connection_get_one_end(connect):
    assert connect().ask(b"GET / HTTP/1.1\r\n" * 1000).kind in ENDED
