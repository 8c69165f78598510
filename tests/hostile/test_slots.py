"""Association slots: who takes one, who gives it back, and what is kept for a C-ECHO (guarantee 5)."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.hostile import pdus
from tests.hostile.data_sets import ct_image
from tests.hostile.node import eventually
from tests.hostile.peer import Peer

LOCAL_LIMIT_EXCEEDED = (2, 3, 2)  # rejected for now, by the provider; PS3.8 table 9-21
SLOTS = 4
GRANTED = 3  # to one address by the strict node


@pytest.fixture(scope="module")
def node_of_few_slots(run_node):
    with run_node(max_associations=SLOTS) as node:
        yield node


@pytest.fixture
def small_node(node_of_few_slots):
    """A node with few slots, all free: who left in the case before, without a word, is noticed a little later."""
    assert eventually(lambda: node_of_few_slots.holds(SLOTS), within_s=2)
    return node_of_few_slots


@pytest.fixture
def call(small_node):
    """Asks the small node for an association; the answer. Those accepted stay open until the end."""
    with ExitStack() as stack:

        def call(request=None, **how):
            peer = stack.enter_context(Peer(small_node.dicom_port, **how))
            return peer.ask(request or pdus.associate_rq())

        yield call


def address(number):
    return f"127.2.0.{number + 1}"


def test_500_who_connect_and_leave_hold_up_nobody(node):
    for number in range(500):
        Peer(node.dicom_port, address=f"127.3.{number // 200}.{number % 200 + 1}").close()
        if number % 100 == 50:
            node.assert_echoes()
    node.assert_echoes()
    node.assert_rested()


def test_500_who_connect_and_reset_hold_up_nobody(node):
    for number in range(500):
        Peer(node.dicom_port, address=f"127.3.{number // 200}.{number % 200 + 1}").reset()
    node.assert_echoes()
    node.assert_rested()


def test_300_who_associate_and_leave_without_a_word_give_their_slots_back_at_once(node):
    def visit(number):
        with Peer(node.dicom_port, address=f"127.4.0.{number % 200 + 1}") as peer:
            return peer.ask(pdus.associate_rq()).kind

    with ThreadPoolExecutor(8) as visitors:
        assert "accepted" in set(visitors.map(visit, range(300))) <= {"accepted", "rejected"}
    assert eventually(lambda: node.holds(32), within_s=2)
    node.assert_rested()


def test_300_associations_in_a_row_leave_nothing(node):
    before_mb = node.usage().rss_mb
    for _ in range(300):
        with Peer(node.dicom_port) as peer:
            peer.associate()
            assert peer.ask(pdus.RELEASE).kind == "released"
    node.assert_rested()
    assert node.usage().rss_mb - before_mb < 50


def test_a_sender_that_is_silent_between_two_messages_keeps_its_association(node, connect):
    senders = [connect(address=address(n)).associate() for n in range(4)]
    node.assert_stores()
    image = ct_image()
    assert [sender.store(pdus.CT, image.uid, image.encoded()).outcome for sender in senders] == [0x0000] * 4


def test_whoever_comes_when_all_slots_are_taken_is_rejected_for_now(call):
    answers = [call(address=address(n)) for n in range(SLOTS + 4)]
    assert [a.kind for a in answers[:SLOTS]] == ["accepted"] * SLOTS
    assert {a.rejection for a in answers[SLOTS:]} == {LOCAL_LIMIT_EXCEEDED}


def test_an_echo_has_its_slot_when_all_others_are_taken(call, small_node):
    for n in range(SLOTS + 4):
        call(address=address(n))
    for _ in range(5):
        small_node.assert_echoes()


def test_the_slot_for_an_echo_cannot_be_taken_by_one_who_also_wants_to_store(call):
    for n in range(SLOTS + 4):
        call(address=address(n))
    contexts = (pdus.context(1, pdus.VERIFICATION, pdus.IMPLICIT), pdus.context(3, pdus.CT_IMAGE, pdus.EXPLICIT))
    assert call(pdus.proposing(*contexts)).rejection == LOCAL_LIMIT_EXCEEDED


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(Peer.close, id="by closing"),
        pytest.param(Peer.reset, id="by a reset"),
        pytest.param(lambda peer: peer.send(pdus.ABORTED), id="by an abort"),
    ],
)
def test_whoever_leaves_gives_the_slot_to_the_next_at_once(small_node, leave):
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(small_node.dicom_port, address=address(n))) for n in range(SLOTS)]
        for peer in peers:
            peer.associate()
            leave(peer)
        assert eventually(lambda: small_node.holds(SLOTS), within_s=2)


def test_connections_that_say_nothing_hold_no_slot(small_node, call):
    with ExitStack() as stack:
        for n in range(50):
            stack.enter_context(Peer(small_node.dicom_port, address=address(n)))
        small_node.assert_echoes()
        assert call().kind == "accepted"


def test_one_peer_may_not_take_the_slots_of_all(strict_node):
    with ExitStack() as stack:
        greedy = [stack.enter_context(Peer(strict_node.dicom_port, address="127.5.0.1")) for _ in range(GRANTED + 5)]
        answers = [peer.ask(pdus.associate_rq()) for peer in greedy]
        assert [a.kind for a in answers[:GRANTED]] == ["accepted"] * GRANTED
        assert {a.rejection for a in answers[GRANTED:]} == {LOCAL_LIMIT_EXCEEDED}
        other = stack.enter_context(Peer(strict_node.dicom_port, address="127.5.0.2"))
        assert other.ask(pdus.associate_rq()).kind == "accepted"
