"""Places for associations: nobody holds one without an association, and C-ECHO always finds one."""

import socket
import struct
from contextlib import ExitStack
from time import sleep

import pytest
from pydicom.uid import CTImageStorage

from ichnode.dicom.admission import Place, Slots


def rejection(association):
    primitive = association.acceptor.primitive
    return primitive.result, primitive.result_source, primitive.diagnostic


def test_when_every_place_is_taken_the_next_sender_is_rejected_for_now_and_an_echo_is_still_answered(
    start_receiving, associate, caplog
):
    port = start_receiving(max_associations=2).port
    open_ones = [associate(port, CTImageStorage) for _ in range(2)]
    assert rejection(associate(port, CTImageStorage)) == (2, 3, 2)
    (line,) = [r for r in caplog.records if r.message == "association_rejected"]
    assert line.reason == "no place is free"
    assert associate(port).send_c_echo().Status == 0x0000
    open_ones[0].release()
    assert associate(port, CTImageStorage).is_established


def test_while_nothing_can_be_stored_senders_are_told_to_come_again_and_an_echo_is_still_answered(
    start_receiving, associate
):
    trouble = [True]
    port = start_receiving(refuses=lambda: trouble[0]).port
    assert rejection(associate(port, CTImageStorage)) == (2, 3, 2)
    assert associate(port).send_c_echo().Status == 0x0000
    trouble[0] = False
    assert associate(port, CTImageStorage).is_established


def test_one_address_cannot_take_every_place(start_receiving, associate):
    port = start_receiving(max_associations=10, max_associations_per_peer=1).port
    assert associate(port, CTImageStorage).is_established
    assert rejection(associate(port, CTImageStorage)) == (2, 3, 2)


def test_places_are_counted_for_each_address_and_given_back():
    slots = Slots(in_all=3, per_address=2)
    taken = [slots.take(address, only_echo=False) for address in ("a", "a", "a", "b", "c")]
    assert taken == [Place.ANY, Place.ANY, None, Place.ANY, None]
    slots.give_back("a", Place.ANY)
    assert slots.take("c", only_echo=True) is Place.ANY


def test_an_echo_takes_a_place_of_its_own_only_when_there_is_no_other_and_of_one_address_not_every_one():
    slots = Slots(in_all=1, per_address=1)
    taken = [slots.take("a", only_echo=True) for _ in range(4)]
    assert taken == [Place.ANY, Place.ECHO, Place.ECHO, None]
    assert [slots.take(address, only_echo=True) for address in ("b", "c", "d")] == [Place.ECHO, Place.ECHO, None]
    slots.give_back("a", Place.ECHO)
    assert slots.take("d", only_echo=True) is Place.ECHO


@pytest.mark.parametrize("begins_with", [b"", b"\1", b"\1\0\0\0\1\0" + bytes(100)], ids=["nothing", "a byte", "a part"])
def test_peers_that_do_not_ask_in_time_hold_no_place_and_are_let_go(
    start_receiving, associate, monkeypatch, begins_with
):
    monkeypatch.setattr("ichnode.dicom.door.ARRIVAL_S", 1)
    port = start_receiving(max_associations=1).port
    with ExitStack() as peers:
        waiting = [peers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(100)]
        for peer in waiting:
            peer.sendall(begins_with)
        assert associate(port, CTImageStorage).is_established
        assert all(peer.recv(1) == b"" for peer in waiting)


def test_more_peers_than_may_wait_push_out_the_one_that_waits_longest(start_receiving, associate, monkeypatch):
    monkeypatch.setattr("ichnode.dicom.door.MOST_WAITING", 3)
    port = start_receiving().port
    with ExitStack() as peers:
        first, *_ = [peers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(4)]
        assert first.recv(1) == b""
        assert associate(port).send_c_echo().Status == 0x0000


def test_where_those_who_wait_have_sent_too_much_together_who_sent_most_is_let_go(
    start_receiving, associate, monkeypatch
):
    monkeypatch.setattr("ichnode.dicom.door.MOST_HELD", 1000)
    port = start_receiving().port
    begun = struct.pack(">BxL", 1, 5000)
    with ExitStack() as peers:
        greedy, modest = [
            peers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(2)
        ]
        greedy.sendall(begun + bytes(800))
        sleep(0.5)
        modest.sendall(begun + bytes(400))
        assert greedy.recv(1) == b""
        modest.setblocking(False)
        with pytest.raises(BlockingIOError):
            modest.recv(1)
        assert associate(port).send_c_echo().Status == 0x0000


def test_an_association_that_can_only_echo_does_not_hold_its_place_for_long(start_receiving, associate, monkeypatch):
    monkeypatch.setattr("ichnode.dicom.association.ECHO_IDLE_S", 1)
    port = start_receiving().port
    silent = associate(port)
    silent.join(10)
    assert silent.is_aborted


def test_a_peer_that_is_rejected_gets_its_answer_and_the_connection_ends(start_receiving):
    port = start_receiving().port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(struct.pack(">BxL", 1, 68) + b"\0\1\0\0" + b"SOMEONE".ljust(16) + b"CT".ljust(16) + bytes(32))
        assert peer.recv(100)[:1] == b"\7"  # no presentation context: an abort
        assert peer.recv(100) == b""
