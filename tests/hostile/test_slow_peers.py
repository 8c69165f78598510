"""Peers that stop, or trickle, wherever a peer can: all at the same time, while others are served.

Every PDU has a deadline as a whole (guarantee 2), so each of them is let go within 15 s; none of them holds up anybody
else (guarantees 1 and 5). They call from many addresses, as a ward of sick devices would, and stay within what the
node has slots for.
"""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event, Thread
from time import monotonic

import pytest

from tests.hostile import commands, pdus
from tests.hostile.data_sets import ct_image
from tests.hostile.node import AttackedNode
from tests.hostile.peer import ENDED, PATIENCE_S, PROMISED_S, Answer, Peer

REQUEST = pdus.associate_rq()
IMAGE = ct_image()
STORE = pdus.message(pdus.CT, commands.store_rq(IMAGE.uid), IMAGE.encoded())
COMMAND_LENGTH = 12 + len(commands.store_rq(IMAGE.uid))

STOPPED_BEFORE_THE_ASSOCIATION = {
    "nothing at all": b"",
    "one byte": REQUEST[:1],
    "five bytes": REQUEST[:5],
    "a header alone": REQUEST[:6],
    "a header and ten bytes": REQUEST[:16],
    "half a request": REQUEST[: len(REQUEST) // 2],
    "a request without its last byte": REQUEST[:-1],
    "a request that claims four bytes more": pdus.associate_rq(length=len(REQUEST) - 6 + 4),
    "a request that claims 1 MiB": pdus.associate_rq(length=1 << 20),
    "half of a 1 MiB request": pdus.associate_rq(length=1 << 20) + bytes(1 << 19),
    "one byte of TLS": b"\x16",
    "four bytes of HTTP": b"GET ",
}
STOPPED_INSIDE_A_PDU = {
    "one byte of a PDU": STORE[:1],
    "half a PDU header": STORE[:3],
    "a PDU header alone": STORE[:6],
    "half a header of a value": STORE[:9],
    "a PDU inside its command": STORE[:40],
    "a PDU inside its data set": STORE[: COMMAND_LENGTH + 100],
    "a PDU without its last byte": STORE[:-1],
    "half a release": pdus.RELEASE[:7],
    "half an abort": pdus.ABORTED[:7],
    "a value that claims more than came": pdus.data(pdus.value(pdus.CT, 3, b"\0" * 10), length=5000),
}
IDLE, TRICKLING, STALLED = 200, 200, 20


@dataclass
class Siege:
    """What became of the slow peers."""

    answers: dict[str, Answer] = field(default_factory=dict)  # of those that stopped
    held_s: dict[str, list[float]] = field(default_factory=dict)  # how long each of a crowd was held
    echoes_s: list[float] = field(default_factory=list)  # C-ECHO of others meanwhile


@pytest.fixture(scope="module")
def siege(node: AttackedNode):
    """All slow peers at once, from their first byte until the last of them was let go."""
    result, over = Siege(), Event()
    with ExitStack() as stack:
        opened = iter(range(1 << 20))

        def connect():
            number = next(opened)
            return stack.enter_context(Peer(node.dicom_port, address=f"127.1.{number // 200}.{number % 200 + 1}"))

        stopped = {name: connect().send(content) for name, content in STOPPED_BEFORE_THE_ASSOCIATION.items()}
        for name, content in STOPPED_INSIDE_A_PDU.items():
            stopped[name] = connect().associate().send(content)
        crowds = {"stalled": [connect().associate().send(STORE[:60]) for _ in range(STALLED)]}
        crowds["idle"] = [connect() for _ in range(IDLE)]
        crowds["trickling"] = [connect() for _ in range(TRICKLING)]
        began = monotonic()
        others = [
            Thread(target=_trickle, args=(crowds["trickling"], over)),
            Thread(target=_echo_meanwhile, args=(node, result, over)),
        ]
        for thread in others:
            thread.start()
        with ThreadPoolExecutor(len(stopped) + sum(map(len, crowds.values()))) as waiting:
            answers = {name: waiting.submit(peer.answer) for name, peer in stopped.items()}
            held = {crowd: list(waiting.map(lambda p: _held_s(p, began), peers)) for crowd, peers in crowds.items()}
            result.answers = {name: answer.result() for name, answer in answers.items()}
        result.held_s = held
        over.set()
        for thread in others:
            thread.join()
    return result


def _held_s(peer: Peer, began: float) -> float:
    peer.answer(within_s=began + PATIENCE_S - monotonic())
    return monotonic() - began


def _trickle(peers: list[Peer], over: Event) -> None:
    """A byte of a good request a second, to each."""
    for byte in REQUEST:
        for peer in peers:
            try:
                peer.socket.send(bytes([byte]), socket.MSG_DONTWAIT)
            except OSError:
                continue  # it was let go
        if over.wait(1):
            return


def _echo_meanwhile(node: AttackedNode, result: Siege, over: Event) -> None:
    while not over.wait(0.5):
        began = monotonic()
        result.echoes_s.append(monotonic() - began if node.echoes() else float("inf"))


@pytest.mark.parametrize("name", [*STOPPED_BEFORE_THE_ASSOCIATION, *STOPPED_INSIDE_A_PDU])
def test_a_peer_that_stops_after(siege, name):
    assert siege.answers[name].kind in ENDED


@pytest.mark.parametrize("crowd", ["idle", "trickling", "stalled"])
def test_every_one_of_a_crowd_is_let_go_within_15_s_that_is(siege, crowd):
    assert max(siege.held_s[crowd]) < PROMISED_S + 1


def test_meanwhile_every_echo_of_others_succeeded_within_2_s(siege):
    assert len(siege.echoes_s) > 5
    assert max(siege.echoes_s) < 2


def test_afterwards_no_thread_and_no_descriptor_is_left(siege, node):
    node.assert_rested()
