"""Data transfer under the C-STORE: whatever pieces it comes in, and however it ends."""

import select
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from pydicom.uid import CTImageStorage
from sqlalchemy import text

from ichnode.phantom import REGULAR, head_ct
from tests.benchmarks.fast_sender import Encoded, _associate_request, _store_request
from tests.integration.conftest import encoded

ABORTED, ACCEPTED, DATA, RELEASED = 7, 2, 4, 6
RELEASE = b"\x05\0\0\0\0\4\0\0\0\0"


@pytest.fixture(scope="module")
def head():
    """The instances of a small head."""
    return head_ct(hematoma_ml=0, geometry=replace(REGULAR, rows=32, columns=32)).datasets


class Peer:
    """A sender on a bare socket, after its association was accepted with one context: CT, explicit, id 1."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(_associate_request("ICHNODE", "SCANNER"))
        assert self.receive()[0] == ACCEPTED

    def send(self, content):
        self._socket.sendall(content)

    def receive(self):
        """Type and content of the next PDU; (None, b"") where the connection ends."""
        head = self._exactly(6)
        return (head[0], self._exactly(struct.unpack(">L", head[2:])[0])) if head else (None, b"")

    def status(self):
        kind, answer = self.receive()
        assert kind == DATA
        return struct.unpack_from("<H", answer, answer.index(b"\0\0\0\x09\2\0\0\0") + 8)[0]

    def is_answered(self, within_s):
        return bool(select.select([self._socket], [], [], within_s)[0])

    def close(self):
        self._socket.close()

    def _exactly(self, count):
        data = b""
        while len(data) < count and (piece := self._socket.recv(count - len(data))):
            data += piece
        return data


@pytest.fixture
def connect(receiving):
    """Opens bare associations with the running receiver, and closes them."""
    peers = []

    def connect(port=receiving.port):
        peers.append(Peer(port))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


def store_request(dataset, max_pdu=131072):
    """Command and data set of a C-STORE-RQ as P-DATA-TF PDUs, the data set in PDUs of at most `max_pdu`."""
    return _store_request(1, Encoded(dataset.SOPInstanceUID.encode(), encoded(dataset)), max_pdu)


def pdus_of(content):
    """One by one."""
    while content:
        end = 6 + struct.unpack_from(">L", content, 2)[0]
        yield content[:end]
        content = content[end:]


def data_pdu(*values):
    """A P-DATA-TF PDU from (context id, control header, fragment)."""
    items = b"".join(struct.pack(">LBB", len(data) + 2, context, control) + data for context, control, data in values)
    return struct.pack(">BxL", DATA, len(items)) + items


def test_a_data_set_in_many_small_pdus_is_stored_whole(receiving, connect, head):
    peer = connect()
    peer.send(store_request(head[0], max_pdu=100))
    assert peer.status() == 0x0000
    (row,) = receiving.received(head[0].StudyInstanceUID)
    (file,) = receiving.files()
    assert file.read_bytes()[row.header["DataSetOffset"] :] == encoded(head[0])


def test_command_and_data_set_may_share_a_pdu_and_be_cut_anywhere(receiving, connect, head):
    command_pdu, data = store_request(head[0]), encoded(head[0])
    command = command_pdu[12 : 6 + struct.unpack_from(">L", command_pdu, 2)[0]]
    peer = connect()
    peer.send(data_pdu((1, 1, command[:31]), (1, 3, command[31:]), (1, 0, data[:7])) + data_pdu((1, 2, data[7:])))
    assert peer.status() == 0x0000
    (row,) = receiving.received(head[0].StudyInstanceUID)
    (file,) = receiving.files()
    assert file.read_bytes()[row.header["DataSetOffset"] :] == data


def test_requests_that_do_not_wait_for_answers_are_all_answered_and_then_released(receiving, connect, head):
    peer = connect()
    peer.send(b"".join(map(store_request, head[:5])) + RELEASE)
    assert [peer.status() for _ in range(5)] == [0x0000] * 5
    assert peer.receive()[0] == RELEASED
    assert len(receiving.received(head[0].StudyInstanceUID)) == 5


def test_an_echo_and_stores_share_an_association(receiving, associate, head):
    association = associate(receiving.port, "1.2.840.10008.1.1", CTImageStorage)
    assert association.send_c_echo().Status == 0x0000
    assert association.send_c_store(head[0]).Status == 0x0000
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert association.is_released


@pytest.mark.parametrize(
    "pdu",
    [
        pytest.param(data_pdu((1, 3, b"not a command set")), id="no command set"),
        pytest.param(struct.pack(">BxLLBB", DATA, 6, 100, 1, 0), id="a value longer than its PDU"),
        pytest.param(struct.pack(">BxLL", DATA, 4, 2), id="a value without a header"),
        pytest.param(struct.pack(">BxLLBB", DATA, 6, 1, 1, 0), id="a value without a control header"),
        pytest.param(struct.pack(">BxL", DATA, 0xFFFFFFFF), id="a PDU of 4 GiB"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="no PDU"),
        pytest.param(_associate_request("ICHNODE", "SCANNER"), id="another association request"),
    ],
)
def test_what_is_no_data_transfer_is_answered_with_an_abort(receiving, connect, head, pdu):
    peer = connect()
    peer.send(pdu)
    assert peer.receive()[0] == ABORTED
    other = connect()
    other.send(store_request(head[0]))
    assert other.status() == 0x0000


def test_a_message_on_a_context_that_was_not_accepted_is_answered_with_an_abort(connect, head):
    content = bytearray(store_request(head[0]))
    position = 0
    while position < len(content):
        content[position + 10] = 5  # the context id of the PDU's one value
        position += 6 + struct.unpack_from(">L", content, position + 2)[0]
    peer = connect()
    peer.send(bytes(content))
    assert peer.receive()[0] == ABORTED


def test_a_peer_that_vanishes_in_the_middle_of_a_pdu_leaves_an_aborted_association(receiving, connect, head, engine):
    request = store_request(head[1])
    peer = connect()
    peer.send(store_request(head[0]))
    assert peer.status() == 0x0000
    peer.send(request[: len(request) // 2])
    peer.close()
    assert any(_ending(engine) == "aborted" or Event().wait(0.02) for _ in range(500))
    assert len(receiving.files()) == 1


def _ending(engine):
    with engine.connect() as db:
        return db.execute(text("SELECT ending FROM associations")).scalar_one()


def test_a_silent_peer_is_aborted_when_the_idle_time_is_over(start_receiving, connect, monkeypatch):
    monkeypatch.setattr("ichnode.dicom.association.IDLE_S", 1)
    peer = connect(start_receiving().port)
    assert peer.receive()[0] == ABORTED


def test_a_peer_that_falls_silent_within_a_pdu_is_let_go_when_the_time_for_a_pdu_is_over(
    start_receiving, connect, head, monkeypatch
):
    monkeypatch.setattr("ichnode.dicom.pdu.PDU_S", 1)
    peer = connect(start_receiving().port)
    peer.send(store_request(head[0])[:300])
    assert peer.receive()[0] in (ABORTED, None)


def test_a_peer_that_trickles_a_message_is_let_go_however_often_it_sends(start_receiving, connect, head, monkeypatch):
    monkeypatch.setattr("ichnode.dicom.association.MESSAGE_IDLE_S", 1)
    peer = connect(start_receiving().port)
    peer.send(next(pdus_of(store_request(head[0]))))
    trickled = 0
    while not peer.is_answered(within_s=0.2) and trickled < 50:
        peer.send(data_pdu((1, 0, b"\0")))
        trickled += 1
    assert peer.receive()[0] == ABORTED
    assert 2 < trickled < 50


def test_a_peer_that_is_slow_but_not_that_slow_is_served(start_receiving, connect, head, monkeypatch):
    monkeypatch.setattr("ichnode.dicom.association.MESSAGE_IDLE_S", 1)
    peer = connect(start_receiving().port)
    for pdu in pdus_of(store_request(head[0], max_pdu=500)):
        assert not peer.is_answered(within_s=0.25)
        peer.send(pdu)
    assert peer.status() == 0x0000


def test_many_senders_at_once_lose_nothing_and_an_instance_they_share_is_kept_once(receiving, connect, head):
    def send(number):
        peer = connect()
        peer.send(b"".join(map(store_request, (head[0], *head[1 + 3 * number : 4 + 3 * number]))))
        return [peer.status() for _ in range(4)]

    with ThreadPoolExecutor(8) as senders:
        assert list(senders.map(send, range(8))) == [[0x0000] * 4] * 8
    assert {row.sop_instance_uid for row in receiving.received(head[0].StudyInstanceUID)} == {
        ds.SOPInstanceUID for ds in head[:25]
    }
    assert len(receiving.files()) == 25
