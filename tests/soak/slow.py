"""A crowd of slow connections for as long as is asked for: each is let go in time, and echoes of others go through.

Whoever is let go is followed by another of its kind: silent from the start, a byte a second, or stuck inside a PDU.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from tests.hostile import commands, pdus
from tests.hostile.data_sets import ct_image
from tests.hostile.node import AttackedNode
from tests.hostile.peer import PROMISED_S, Peer
from tests.soak.figures import Figure

TITLE = "slow connections"
REQUEST = pdus.associate_rq()
IMAGE = ct_image()
STUCK = pdus.message(pdus.CT, commands.store_rq(IMAGE.uid), IMAGE.encoded())[:60]
ADDRESSES = 200
INSIDE_A_PDU_S = 30.0  # within an association a message may pause so long (docs/conformance.md)


@dataclass(slots=True)
class _Slow:
    """One place of the crowd, and who has it now."""

    connect: Callable[[], Peer]
    trickles: bool
    peer: Peer | None = None
    since: float = 0.0
    sent: int = 0
    held_s: list[float] = field(default_factory=list)

    def move(self) -> None:
        """A second has passed."""
        if self.peer is None:
            try:
                self.peer, self.since, self.sent = self.connect(), monotonic(), 0
            except (OSError, AssertionError):
                return  # the place of the one before is not free yet
        with suppress(OSError):
            if self.trickles:
                self.peer.socket.send(REQUEST[self.sent : self.sent + 1])
                self.sent += 1
        if self._let_go():
            self.held_s.append(monotonic() - self.since)
            self.leave()

    def leave(self) -> None:
        if self.peer is not None:
            self.peer.close()
            self.peer = None

    def _let_go(self) -> bool:
        assert self.peer is not None
        try:
            return self.peer.socket.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def measure(folder: Path, *, connections: int, minutes: float) -> list[Figure]:
    """A tenth of the connections are stuck inside a PDU of an association; the others are half silent, half trickle."""
    with AttackedNode(folder, max_associations=connections // 10 + 16) as node, ExitStack() as stack:
        node.start()
        connect = [_connector(node, number, stuck=number % 10 == 0) for number in range(connections)]
        crowd = [_Slow(connect[number], trickles=number % 2 == 1) for number in range(connections)]
        for one in crowd:
            stack.callback(one.leave)
        echoes_s: list[float] = []
        over = Event()
        echoing = Thread(target=_echo, args=(node, echoes_s, over))
        echoing.start()
        until = monotonic() + minutes * 60
        while monotonic() < until:
            for one in crowd:
                one.move()
            over.wait(1)
        waiting_since = [one.since for one in crowd if one.peer is not None]
        over.set()
        echoing.join()
        now = monotonic()
        for one in crowd:
            one.leave()
        node.assert_rested()
        node.assert_unharmed()
    held = [s for one in crowd for s in one.held_s]
    still = [now - since for since in waiting_since]
    in_time = sorted(s for s in echoes_s if s != float("inf"))
    return [
        Figure(what="connections, one after another", measured=len(held) + len(still)),
        Figure(what="longest that any was held, s", measured=max([0.0, *held, *still]), most=PROMISED_S + 1),
        Figure(what="echoes tried", measured=len(echoes_s), least=minutes * 60 / 2),
        Figure(what="... that succeeded, %", measured=100 * len(in_time) / max(1, len(echoes_s)), least=100),
        Figure(what="... p99, s", measured=in_time[int(0.99 * (len(in_time) - 1))] if in_time else 99, most=1),
    ]


def _connector(node: AttackedNode, number: int, *, stuck: bool) -> Callable[[], Peer]:
    address = f"127.9.{number // ADDRESSES}.{number % ADDRESSES + 1}"

    def connect() -> Peer:
        peer = Peer(node.dicom_port, address=address)
        if stuck:
            peer.associate().send(STUCK)
        peer.socket.setblocking(False)  # from now on one looks at it once a second
        return peer

    return connect


def _echo(node: AttackedNode, echoes_s: list[float], over: Event) -> None:
    while not over.wait(0.25):
        began = monotonic()
        echoes_s.append(monotonic() - began if node.echoes() else float("inf"))
