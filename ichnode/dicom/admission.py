"""Admission: who may have an association, how many there may be, and why somebody gets none."""

import ipaddress
from collections import Counter
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from threading import Lock

ECHO_SLOTS = 4  # beside all others, for associations that can do nothing but C-ECHO
ECHO_SLOTS_EACH = 2  # ... of one address


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


class Place(Enum):
    """What an open association holds."""

    ANY = auto()
    ECHO = auto()  # one of the few that only C-ECHO gets, when there is no other


class Slots:
    """Places for open associations: so many in all, so many for one address, and a few more that only C-ECHO gets."""

    def __init__(self, *, in_all: int, per_address: int) -> None:
        self._most = {Place.ANY: in_all, Place.ECHO: ECHO_SLOTS}
        self._most_each = {Place.ANY: per_address, Place.ECHO: ECHO_SLOTS_EACH}
        self._lock = Lock()
        self._taken: dict[Place, Counter[str]] = {place: Counter() for place in Place}

    def take(self, address: str, *, only_echo: bool) -> Place | None:
        """A place, to be given back; None where there is none."""
        with self._lock:
            for place in (Place.ANY, Place.ECHO) if only_echo else (Place.ANY,):
                taken = self._taken[place]
                if taken.total() < self._most[place] and taken[address] < self._most_each[place]:
                    taken[address] += 1
                    return place
            return None

    def give_back(self, address: str, place: Place) -> None:
        """To be called once for each place taken."""
        with self._lock:
            self._taken[place] -= Counter([address])  # and nothing stays of an address without any
