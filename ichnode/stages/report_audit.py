"""Report audit: rejected associations enter the trail, and its rows go to the collector, in a thread of their own.

Nothing that receives waits for either: rejections wait in a short queue, rows in the ledger, where the position that
the collector has reached is kept, too. A row may be sent twice, and is never left out.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from threading import Lock

from ichnode.dicom.audit_message import audit_message
from ichnode.dicom.syslog import Collector, send_syslog
from ichnode.domain.audit import AuditEvent, AuditOutcome
from ichnode.metrics import Metrics
from ichnode.storage.audit import AuditTrail

log = logging.getLogger(__name__)

_MOST_WAITING = 1000  # rejections between two turns; more are counted
_KINDS_A_TURN = 20  # different ones; the rarer ones are counted
_ROWS_A_TURN = 200
_REJECTIONS_EVERY_S = 1.0  # a flood of rejected associations is a few rows a second
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 60.0


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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collector = collector
        self._trail = trail
        self._metrics = metrics
        self._ae_title = ae_title
        self._clock = clock
        self._monotonic = monotonic
        self._lock = Lock()
        self._rejected: deque[tuple[str, str, str, str]] = deque()
        self._left_out = 0
        self._written_at = float("-inf")
        self._rests_until, self._rest_s = 0.0, _FIRST_REST_S

    def association_rejected(self, *, calling_ae_title: str, called_ae_title: str, peer: str, reason: str) -> None:
        """Somebody was turned away. Returns at once; safe in any thread."""
        with self._lock:
            if len(self._rejected) < _MOST_WAITING:
                self._rejected.append((calling_ae_title, called_ae_title, peer, reason))
            else:
                self._left_out += 1

    def turn(self) -> bool:
        """Write the rejections, send the next rows; whether there may be more to send."""
        self._write_rejections()
        return self._collector is not None and self._send(self._collector)

    def finish(self) -> None:
        """At stop: what can still be told at once."""
        self._written_at = float("-inf")
        self._write_rejections()

    def _write_rejections(self) -> None:
        """One row for all that are alike."""
        if not self._rejected or self._monotonic() < self._written_at + _REJECTIONS_EVERY_S:
            return
        with self._lock:
            alike, left_out = Counter(self._rejected), self._left_out
            self._rejected.clear()
            self._left_out = 0
        self._written_at = self._monotonic()
        most = alike.most_common(_KINDS_A_TURN)
        left_out += alike.total() - sum(times for _, times in most)
        for (calling, called, peer, reason), times in most:
            what = {"called_ae_title": called, "peer": peer, "reason": reason, "times": times, "left_out": left_out}
            self._trail.append(
                AuditEvent.ASSOCIATION_REJECTED,
                who=calling,
                what=what,
                at=self._clock(),
                outcome=AuditOutcome.FAILURE,
            )
            left_out = 0

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
            self._rests_until = self._monotonic() + self._rest_s
            self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
            return False
        self._rest_s = _FIRST_REST_S
        self._trail.reached(collector.name, rows[-1].sequence)
        self._metrics.audit_unsent.set(self._trail.end() - rows[-1].sequence)
        return len(rows) == _ROWS_A_TURN
