"""WebParts: what the pages and the API are made from. node.py fills it in; the files beside this one use it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ichnode.metrics import Metrics
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
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
    destinations: Collection[str]  # their names
    metrics: Metrics
    readiness: Callable[[], Mapping[str, str]]  # each part's trouble, "" where there is none
    credentials: Credentials
    tls: bool
    viewer_url: str | None = None  # of the site's viewer, with {StudyInstanceUID} in it
