"""Deliver: the outbox of one destination, one job a turn over one association."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ichnode.dicom.scu import Outcome, Outgoing, Peer, send
from ichnode.dicom.statuses import Verdict
from ichnode.domain.job import JobState, retry_delay_s
from ichnode.errors import DeliveryError
from ichnode.metrics import Metrics
from ichnode.stages.set_clock import SetClock
from ichnode.storage.history import History
from ichnode.storage.outbox import Delivery, Outbox

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a delivery is tried again."""

    first_s: float
    cap_s: float
    max_attempts: int


class DeliverStage:
    """Each destination has its own, in its own thread: a dead one delays nobody else."""

    def __init__(
        self,
        destination: str,
        peer: Peer,
        *,
        outbox: Outbox,
        history: History,
        metrics: Metrics,
        retry: RetryPolicy,
        calling_ae_title: str,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destination = destination
        self._peer = peer
        self._outbox = outbox
        self._history = history
        self._metrics = metrics
        self._retry = retry
        self._calling_ae_title = calling_ae_title
        self._clock = clock
        self._monotonic = monotonic
        self._rests_until = 0.0  # of the monotonic clock
        self._set_clock = SetClock(clock, monotonic)

    def turn(self) -> bool:
        """Send what is due of one job; whether there was anything.

        What fails in a way that nobody expects is postponed like any failure, and raised. The stage then also rests, in
        case the ledger could not note that.
        """
        self._set_clock.look()
        if self._monotonic() < self._rests_until:
            return False
        due = self._outbox.due(self._destination, at=self._clock(), longest_wait_s=self._retry.cap_s)
        if not due:
            return False
        objects = [
            Outgoing(sop_class_uid=d.sop_class_uid, sop_instance_uid=d.sop_instance_uid, file=d.file) for d in due
        ]
        began, jitter = self._monotonic(), random.random()  # one for the turn: what failed together is tried together
        open_ones = list(due)
        try:
            for outcome in send(self._peer, objects, calling_ae_title=self._calling_ae_title):
                self._note(open_ones[0], outcome, jitter)
                open_ones.pop(0)
        except DeliveryError as problem:
            log.warning("not_delivered", extra={"destination": self._destination, "detail": problem.detail})
            self._not_sent(open_ones, problem, jitter)
        except Exception as problem:
            self._rests_until = self._monotonic() + self._retry.first_s
            detail = f"{type(problem).__name__}: {problem}"
            self._not_sent(open_ones, DeliveryError(None, detail, permanent=False), jitter)
            raise
        self._metrics.stage_seconds.labels("deliver").observe(self._monotonic() - began)
        return True

    def _not_sent(self, deliveries: Sequence[Delivery], problem: DeliveryError, jitter: float) -> None:
        verdict = Verdict.PERMANENT if problem.permanent else Verdict.TRANSIENT
        for delivery in deliveries:
            self._note(delivery, Outcome(verdict=verdict, status=problem.status, detail=problem.detail), jitter)

    def _note(self, delivery: Delivery, outcome: Outcome, jitter: float) -> None:
        now, status, detail = self._clock(), outcome.status, outcome.detail
        label, job_state = outcome.verdict.value, None
        if outcome.verdict is Verdict.DELIVERED:
            job_state = self._outbox.delivered(delivery, status=status, at=now)
        elif outcome.verdict is Verdict.PERMANENT:
            job_state = self._outbox.refused(delivery, status=status, error=detail, at=now)
        elif delivery.attempts + 1 >= self._retry.max_attempts:
            label, job_state = "dead", self._outbox.dead(delivery, status=status, error=detail, at=now)
        else:
            retry = self._retry
            delay = retry_delay_s(delivery.attempts + 1, first_s=retry.first_s, cap_s=retry.cap_s, jitter=jitter)
            self._outbox.postponed(delivery, status=status, error=detail, until=now + delay)
        self._metrics.deliveries.labels(self._destination, label).inc()
        if job_state is not None:
            self._job_ended(delivery.job_id, job_state, now)

    def _job_ended(self, job_id: int, state: JobState, now: float) -> None:
        job = self._history.job(job_id)
        if job is not None and state is JobState.DONE:
            received_at = self._history.last_received_at(job)
            if self._set_clock.trusted_since() <= received_at <= now:
                self._metrics.last_image_to_result_seconds.observe(now - received_at)
        log.info("job_ended", extra={"job_id": job_id, "state": state, "destination": self._destination})
