"""Admission: who may have an association, how many there may be, and why somebody gets none."""

import ipaddress
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock

ECHO_SLOTS = 4  # beside all others, for associations that can do nothing but C-ECHO


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedSource:
    """A calling AE title that may send, from anywhere or from one network. `ae_title` None: any."""

    ae_title: str | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    def admits(self, ae_title: str, address: str) -> bool:
        """Whether this title may call from this address."""
        peer = ipaddress.ip_address(address.partition("%")[0])  # without the zone of a link-local address
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return self.ae_title in (None, ae_title) and (self.network is None or peer in self.network)


LOOPBACK_ONLY = (
    AdmittedSource(ae_title=None, network=ipaddress.ip_network("127.0.0.0/8")),
    AdmittedSource(ae_title=None, network=ipaddress.ip_network("::1/128")),
)


class TurnedAway(StrEnum):
    """Why a peer gets no association: what is counted. The log says more."""

    NO_PDU = "no_pdu"  # what came is not the beginning of an association
    TLS = "tls"  # no TLS, no certificate, or one that is not trusted
    PROTOCOL = "protocol"  # version or application context name
    CALLED_AE_TITLE = "called_ae_title"
    NOT_ADMITTED = "not_admitted"  # calling AE title and address
    NO_PLACE = "no_place"  # too many associations
    NO_ROOM = "no_room"  # the node can store nothing for the moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Somebody was turned away. Titles are "" where none was read."""

    why: TurnedAway
    reason: str  # in words
    peer: str
    calling_ae_title: str = ""
    called_ae_title: str = ""


class Slots:
    """Places for open associations: so many in all, so many for one address, and a few that only C-ECHO gets."""

    def __init__(self, *, in_all: int, per_address: int) -> None:
        self._in_all, self._per_address = in_all, per_address
        self._lock = Lock()
        self._taken: Counter[str] = Counter()
        self._echoing = 0

    def take(self, address: str, *, only_echo: bool) -> bool:
        """Whether there was a place; what was taken is given back by the same words."""
        with self._lock:
            if only_echo:
                has_place = self._echoing < ECHO_SLOTS
                self._echoing += has_place
            else:
                has_place = self._taken.total() < self._in_all and self._taken[address] < self._per_address
                self._taken[address] += has_place
            return has_place

    def give_back(self, address: str, *, only_echo: bool) -> None:
        """To be called once for each place taken."""
        with self._lock:
            if only_echo:
                self._echoing -= 1
            else:
                self._taken -= Counter([address])  # and nothing stays of an address without any
