"""Report audit: rejected associations enter the trail, and its rows go to the collector, in a thread of their own.

Nothing that receives waits for either: rejections wait in a short queue, rows in the ledger, where the position that
the collector has reached is kept, too. A row may be sent twice, and is never left out.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ichnode.dicom.audit_message import audit_message
from ichnode.dicom.syslog import Collector, send_syslog
from ichnode.domain.audit import AuditEvent, AuditOutcome
from ichnode.domain.job import retry_delay_s
from ichnode.metrics import Metrics
from ichnode.storage.audit import AuditTrail

log = logging.getLogger(__name__)

_MOST_WAITING = 1000  # rejections between two turns; more are counted
_KINDS_A_TURN = 20  # different ones; the rarer ones are counted
_ROWS_A_TURN = 200
_REJECTIONS_EVERY_S = 1.0  # a flood of rejected associations is a few rows a second
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class _Told:
    event: AuditEvent
    who: str
    what: Mapping[str, Any]
    outcome: AuditOutcome
    at: float


class AuditStage:
    """Appends what nobody else appends, and sends what the collector does not have."""

    def __init__(
        self,
        collector: Collector | None,
        *,
        trail: AuditTrail,
        metrics: Metrics,
        ae_title: str,
        clock: Callable[[], float],
        sends: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collector = collector
        self._trail = trail
        self._metrics = metrics
        self._ae_title = ae_title
        self._clock = clock
        self._sends = sends  # one node does, where several share the trail
        self._monotonic = monotonic
        self._lock, self._writing = Lock(), Lock()
        self._rejected: deque[tuple[str, str, str, str]] = deque()
        self._left_out = 0
        self._counted_at = float("-inf")
        self._pending: deque[_Told] = deque()  # not written yet
        self._rests_until, self._failures = 0.0, 0

    def association_rejected(self, *, calling_ae_title: str, called_ae_title: str, peer: str, reason: str) -> None:
        """Somebody was turned away. Returns at once; safe in any thread."""
        with self._lock:
            if len(self._rejected) < _MOST_WAITING:
                self._rejected.append((calling_ae_title, called_ae_title, peer, reason))
            else:
                self._left_out += 1

    def tell(self, event: AuditEvent, what: Mapping[str, Any]) -> None:
        """What the node itself does; written now, or later where the ledger cannot be written now."""
        self._pending.append(_Told(event, self._ae_title, what, AuditOutcome.SUCCESS, self._clock()))
        try:
            self._write_pending()
        except SQLAlchemyError as problem:
            log.warning("not_audited_yet", extra={"detail": f"{event}: {type(problem).__name__}"})

    def turn(self) -> bool:
        """Write what is not written yet, send the next rows; whether there may be more to send."""
        due = self._monotonic() >= self._counted_at + _REJECTIONS_EVERY_S
        if self._rejected and due and len(self._pending) < _KINDS_A_TURN:
            self._count_rejections()
        self._write_pending()
        return self._collector is not None and self._sends() and self._send(self._collector)

    def finish(self, event: AuditEvent) -> None:
        """At stop: what can still be told at once, and `event` as the last."""
        self._count_rejections()
        self.tell(event, {})

    def _count_rejections(self) -> None:
        """One row for all that are alike; the rarer ones are only counted."""
        with self._lock:
            alike, left_out = Counter(self._rejected), self._left_out
            self._rejected.clear()
            self._left_out = 0
        self._counted_at = self._monotonic()
        most = alike.most_common(_KINDS_A_TURN)
        left_out += alike.total() - sum(times for _, times in most)
        for (calling, called, peer, reason), times in most:
            what = {"called_ae_title": called, "peer": peer, "reason": reason, "times": times, "left_out": left_out}
            told = _Told(AuditEvent.ASSOCIATION_REJECTED, calling, what, AuditOutcome.FAILURE, self._clock())
            self._pending.append(told)
            left_out = 0

    def _write_pending(self) -> None:
        with self._writing:
            while self._pending:
                told = self._pending[0]
                self._trail.append(told.event, who=told.who, what=told.what, at=told.at, outcome=told.outcome)
                self._pending.popleft()

    def _send(self, collector: Collector) -> bool:
        position = self._trail.position(collector.name)
        rows = list(self._trail.rows(after=position, limit=_ROWS_A_TURN))
        self._metrics.audit_unsent.set(self._trail.end() - position)
        if not rows or self._monotonic() < self._rests_until:
            return False
        messages = [(row.at, xml) for row in rows if (xml := audit_message(row, ae_title=self._ae_title))]
        try:
            if messages:
                send_syslog(collector, messages, ae_title=self._ae_title)
        except OSError as problem:
            extra = {"destination": collector.name, "count": len(messages), "detail": str(problem)}
            log.warning("audit_not_sent", extra=extra)
            self._failures += 1
            rest_s = retry_delay_s(self._failures, first_s=_FIRST_REST_S, cap_s=_LONGEST_REST_S, jitter=0)
            self._rests_until = self._monotonic() + rest_s
            return False
        self._failures = 0
        self._trail.reached(collector.name, rows[-1].sequence)
        self._metrics.audit_unsent.set(self._trail.end() - rows[-1].sequence)
        return len(rows) == _ROWS_A_TURN
