"""A day in bad company: one bad peer a second beside good ones; memory must not creep."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import linear_regression
from threading import Event
from time import monotonic

from tests.hostile import commands, pdus
from tests.hostile.data_sets import ct_image, deflate_bomb, nested
from tests.hostile.node import AttackedNode
from tests.hostile.peer import Peer
from tests.soak.figures import Figure

TITLE = "a day in bad company"
SETTLED = 0.25  # of the samples come before caches and pools are full
IMAGE = ct_image()

BAD_PEERS: list[Callable[[Peer], object]] = [
    lambda peer: peer.reset(),
    lambda peer: peer.send(b"GET / HTTP/1.1\r\n\r\n"),
    lambda peer: peer.send(b"\x16\x03\x01" + bytes(200)),
    lambda peer: peer.send(pdus.associate_rq()[:40]),
    lambda peer: peer.send(pdus.associate_rq(length=0xFFFFFFFF)),
    lambda peer: peer.associate().reset(),
    lambda peer: peer.associate().send(pdus.ABORTED),
    lambda peer: peer.associate().send(pdus.message(pdus.CT, commands.store_rq(IMAGE.uid), IMAGE.encoded())[:300]),
    lambda peer: peer.associate().store(pdus.CT, b"../../etc/passwd", IMAGE.encoded()),
    lambda peer: peer.associate().store(pdus.CT, ct_image().uid, IMAGE.encoded()),
    lambda peer: peer.associate().store(pdus.CT, (i := ct_image()).uid, i.head + nested(500)),
    lambda peer: peer.associate().store(pdus.CT, (i := ct_image()).uid, i.encoded()[:-100]),
    lambda peer: peer.associate().store(pdus.CT_DEFLATED, ct_image().uid, BOMB),
]
BOMB = deflate_bomb(64)


def measure(folder: Path, *, hours: float, seed: int = 1) -> list[Figure]:
    """The slope is that of the last three quarters of the time."""
    rng, samples, refused = random.Random(seed), [], 0
    with AttackedNode(folder) as node:
        node.sections["completeness"]["quiet_s"] = 10  # the default; else every study of the first hour would wait
        node.start()
        began = monotonic()
        while (now := monotonic() - began) < hours * 3600:
            with suppress(OSError), Peer(node.dicom_port, address=f"127.10.0.{rng.randrange(1, 250)}") as peer:
                rng.choice(BAD_PEERS)(peer)
                refused += 1
            node.assert_stores()
            samples.append((now / 3600, node.usage().rss_mb))
            Event().wait(max(0.0, 1 - (monotonic() - began - now)))
        node.assert_rested()
        node.assert_unharmed()
    settled = samples[int(SETTLED * len(samples)) :]
    slope = linear_regression(*zip(*settled, strict=True)).slope
    return [
        Figure(what="hours", measured=hours),
        Figure(what="bad peers", measured=refused, least=0.5 * hours * 3600),
        Figure(what="RSS at the end, MB", measured=samples[-1][1]),
        Figure(what="RSS slope, MB/h", measured=slope, most=1 if hours >= 1 else float("inf")),
    ]
