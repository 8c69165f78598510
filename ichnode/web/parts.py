"""WebParts: what the pages and the API are made from. node.py fills it in; the files beside this one use it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ichnode.domain.rules import Rule
from ichnode.metrics import Metrics
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.judgements import Judgements
from ichnode.storage.outbox import Outbox
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.web.guard import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class WebParts:
    """Parts of a node, and what it is called."""

    ae_title: str
    version: str
    history: History
    outbox: Outbox
    intake: Intake
    refused_classes: RefusedClasses
    judgements: Judgements
    destinations: Collection[str]  # their names
    rules: Sequence[Rule]
    metrics: Metrics
    readiness: Callable[[], Mapping[str, str]]  # each part's trouble, "" where there is none
    clock: Callable[[], float]
    credentials: Credentials
    tls: bool
