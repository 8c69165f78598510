"""What reads received bytes, each as a function of bytes that may raise nothing but what it says it raises.

Each target has examples to begin from; a coverage-guided fuzzer (`__main__.py`) changes them.
"""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from ichnode.dicom.admission import LOOPBACK_ONLY, Slots
from ichnode.dicom.association import Acceptor, Association
from ichnode.dicom.command import parse_command, response
from ichnode.dicom.contexts import accepted_contexts
from ichnode.dicom.negotiation import acceptance, proposal
from ichnode.dicom.pdu import BrokenPdu
from ichnode.dicom.receiver import InMemory, StoreRequest
from ichnode.errors import MalformedDataset, NotStored
from ichnode.imaging.header import scan
from ichnode.imaging.salvage import salvage
from tests.hostile import commands, pdus
from tests.hostile.data_sets import ct_image, nested

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
)
CONTEXTS = accepted_contexts()
IMAGE = ct_image()
REQUEST = pdus.associate_body()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reader, and what it reads when all is well."""

    run: Callable[[bytes], None]
    examples: Sequence[bytes]


def associate(content: bytes) -> None:
    """The content of an A-ASSOCIATE-RQ."""
    with suppress(BrokenPdu):
        acceptance(proposal(content), CONTEXTS, longest_pdu=131072)


def command(content: bytes) -> None:
    """A command set, and the answer to it."""
    with suppress(BrokenPdu):
        response(parse_command(content), 0)


def data_set(content: bytes) -> None:
    """A data set; the first byte says in which syntax."""
    syntax = SYNTAXES[content[0] % len(SYNTAXES)] if content else SYNTAXES[0]
    for read in (scan, salvage):
        with suppress(MalformedDataset):
            read(content[1:], syntax)


class Receiver:
    """Stores nothing, but looks at everything."""

    def association_opened(self, *, calling_ae_title: str, peer: str) -> int:
        """Any number."""
        return 1

    def association_closed(self, association_id: int, *, ending: str) -> None:
        """Either ending will do."""
        assert ending in ("released", "aborted")

    def begin(self, request: StoreRequest) -> InMemory:
        """Read it when it is whole."""

        def take(file: bytes) -> None:
            try:
                scan(file, request.transfer_syntax_uid, start=len(request.file_header))
            except MalformedDataset as problem:
                raise NotStored(0xC000, str(problem)) from None

        return InMemory(request, take)


def conversation(content: bytes) -> None:
    """Everything that a peer sends after its association was accepted; then it hangs up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.settimeout(5)
        theirs.sendall(content[:100_000])
        theirs.shutdown(socket.SHUT_WR)
        acceptor = Acceptor(
            ae_title="ICHNODE",
            receiver=Receiver(),
            admitted=LOOPBACK_ONLY,
            contexts=CONTEXTS,
            slots=Slots(in_all=1, per_address=1),
            reported=lambda _: False,
            turned_away=lambda _: None,
            refuses=lambda: False,
            most_bytes=1 << 20,
        )
        Association(ours, "127.0.0.1", REQUEST, acceptor)._run()
        answer = theirs.recv(10)
        assert answer[:1] == bytes([pdus.ASSOCIATE_AC]), answer


TARGETS = {
    "associate": Target(run=associate, examples=(REQUEST,)),
    "command": Target(run=command, examples=(commands.store_rq(IMAGE.uid), commands.echo_rq())),
    "data-set": Target(
        run=data_set,
        examples=(
            b"\0" + IMAGE.encoded()[:2000],
            b"\1" + IMAGE.encoded(explicit=False)[:2000],
            b"\0" + IMAGE.head + nested(3),
            b"\3" + IMAGE.encoded()[:2000],
        ),
    ),
    "conversation": Target(
        run=conversation,
        examples=(
            pdus.message(pdus.CT, commands.store_rq(IMAGE.uid), IMAGE.encoded()[:4000]),
            pdus.message(pdus.CT, commands.echo_rq(), b""),
        ),
    ),
}
