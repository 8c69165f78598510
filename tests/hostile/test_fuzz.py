"""Fuzz: requests, command sets and data sets with bytes changed, cut, doubled and inserted, from a fixed seed.

Every connection is answered or closed within 15 s, the process lives, its memory grows by less than 50 MB, threads and
descriptors come back (RELIABILITY.md 6). ICHNODE_FUZZ says how many of each: 300 without it, 100,000 before a release.
"""

import os
import random
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile import commands, pdus
from tests.hostile.data_sets import ct_image, nested
from tests.hostile.peer import DECIDED, ENDED, Peer, associated

CASES = int(os.environ.get("ICHNODE_FUZZ", "300"))
AT_ONCE = 16
TELLING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to four changes, each of one kind."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) or 1)
        match rng.randrange(7):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1:
                changed[at : at + 1] = bytes([rng.choice(TELLING)])
            case 2:
                changed[at : at + 4] = struct.pack(rng.choice("<>") + "L", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF)))
            case 3:
                del changed[at : at + rng.randint(1, 30)]
            case 4:
                changed[at:at] = rng.randbytes(rng.randint(1, 30))
            case 5:
                changed[at:at] = changed[at : at + rng.randint(1, 200)]
            case 6:
                del changed[at:]
    return bytes(changed)


def request_and_answer(port: int, seed: int) -> str:
    rng = random.Random(seed)
    body = mutated(pdus.associate_body(), rng)
    content = pdus.pdu(pdus.ASSOCIATE_RQ, body) if rng.random() < 0.9 else mutated(pdus.associate_rq(), rng)
    with Peer(port, address=_address(seed)) as peer:
        kind = peer.ask(content).kind
        if kind == "accepted":
            peer.send(pdus.ABORTED)
        return kind if kind not in DECIDED else "decided"


def command_and_answer(port: int, seed: int) -> str:
    rng = random.Random(seed)
    image = ct_image()
    command = mutated(rng.choice((commands.store_rq(image.uid), commands.echo_rq())), rng)
    return _message_and_answer(port, seed, pdus.message(pdus.CT, command, image.encoded()))


def data_set_and_answer(port: int, seed: int) -> str:
    rng = random.Random(seed)
    image = ct_image()
    context_id, data_set = rng.choice(
        (
            (pdus.CT, image.encoded()),
            (pdus.CT_IMPLICIT, image.encoded(explicit=False)),
            (pdus.CT, image.head + nested(5)),
        )
    )
    data_set = mutated(data_set, rng)
    return _message_and_answer(port, seed, pdus.message(context_id, commands.store_rq(image.uid), data_set))


def _message_and_answer(port: int, seed: int, content: bytes) -> str:
    with associated(port, address=_address(seed)) as peer:
        answer = peer.ask(content)
        if answer.kind != "response":
            return "decided" if answer.kind in ENDED else answer.kind
        return "decided" if peer.in_step() else "answered twice"


def _address(seed: int) -> str:
    return f"127.8.0.{seed % 250 + 1}"


@pytest.mark.parametrize("attack", [request_and_answer, command_and_answer, data_set_and_answer])
def test_whatever_is_mutated_is_answered_or_closed_and_costs_nothing_that_stays(node, attack):
    before_mb = node.usage().rss_mb
    with ThreadPoolExecutor(AT_ONCE) as attackers:
        outcomes = dict(
            zip(range(CASES), attackers.map(lambda seed: attack(node.dicom_port, seed), range(CASES)), strict=True)
        )
    assert {seed: outcome for seed, outcome in outcomes.items() if outcome != "decided"} == {}
    node.assert_rested()
    assert node.usage().rss_mb - before_mb < 50
