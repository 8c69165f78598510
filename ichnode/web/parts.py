"""WebParts: what the pages and the API are made from. node.py fills it in; the files beside this one use it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ichnode.domain.job import Job
from ichnode.domain.rules import Rule
from ichnode.domain.trace import TracedSeries
from ichnode.metrics import Metrics
from ichnode.storage.audit import AuditTrail
from ichnode.storage.files import FileStore
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.judgements import Judgements
from ichnode.storage.ledger import Ledger, PlannedJob
from ichnode.storage.outbox import Outbox
from ichnode.storage.overview import Overview
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.storage.worklist import WorkList
from ichnode.web.guard import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class WebParts:
    """Parts of a node, and what it is called."""

    ae_title: str
    version: str
    history: History
    ledger: Ledger
    outbox: Outbox
    intake: Intake
    refused_classes: RefusedClasses
    judgements: Judgements
    audit: AuditTrail
    work_list: WorkList
    overview: Overview
    store: FileStore  # of instances
    destinations: Mapping[str, str]  # name -> where it is
    sources: Collection[str]  # configured AE titles
    rules: Sequence[Rule]
    metrics: Metrics
    device: str  # that inference is configured to use
    readiness: Callable[[], Mapping[str, str]]  # each part's trouble, "" where there is none
    trace: Callable[[str], Sequence[TracedSeries]]  # of a study, by its UID; raises OSError, PYDICOM_ERRORS
    plan: Callable[[Job, str], PlannedJob | None]  # the job's series under another rule; raises OSError, PYDICOM_ERRORS
    call: Callable[[str], str]  # a destination's answer to C-ECHO or OPTIONS; raises DeliveryError and ConfigError
    certificates: Callable[[], Mapping[str, tuple[Path, float | None]]]  # file and its expiry; None: unreadable
    clock: Callable[[], float]
    wake: Callable[[], None]  # the loops that analyse and deliver
    stopping: Callable[[], bool]
    patients_shown: bool
    credentials: Credentials
    tls: bool
    viewer_url: str | None = None  # of the site's viewer, with {StudyInstanceUID} in it
