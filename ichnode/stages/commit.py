"""Commit: ask a destination to commit itself to keep what it took, and note what it reports."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pydicom.uid import generate_uid

from ichnode.dicom.commitment import CommitmentReport, Reported
from ichnode.dicom.scu import Outgoing
from ichnode.dicom.statuses import Verdict, commitment_verdict
from ichnode.domain.job import JobState
from ichnode.errors import DeliveryError
from ichnode.faults import point
from ichnode.metrics import Metrics
from ichnode.stages.deliver import RetryPolicy, as_outgoing, tell_job_ended
from ichnode.stages.set_clock import SetClock
from ichnode.storage.commitments import Commitments
from ichnode.storage.history import History
from ichnode.storage.outbox import Delivery, Outbox

log = logging.getLogger(__name__)


class Request(Protocol):
    """`dicom.commitment.request_commitment` for one destination."""

    def __call__(self, transaction_uid: str, objects: Sequence[Outgoing], *, reported: Reported) -> bool:
        """Whether a report came at once."""


class CommitmentReports:
    """Notes the reports of all destinations, from whichever association and thread they come."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        commitments: Commitments,
        history: History,
        metrics: Metrics,
        retry: RetryPolicy,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._commitments = commitments
        self._history = history
        self._metrics = metrics
        self._retry = retry
        self._clock = clock
        self._set_clock = SetClock(clock, monotonic)

    def reported(self, report: CommitmentReport) -> bool:
        """Note a report; when this returns, it is durable. False: nobody asked under this Transaction UID.

        What is committed is delivered, what failed is sent again; what the report is silent about goes on waiting.
        """
        sent = self._commitments.waiting_for(report.transaction_uid)
        if sent is None:
            log.warning("unknown_commitment", extra={"detail": report.transaction_uid})
            return False
        jitter = random.random()
        for delivery in sent:
            if (reason := report.failed.get(delivery.sop_instance_uid)) is not None:
                self._failed(delivery, reason, jitter)
            elif delivery.sop_instance_uid in report.committed:
                self._committed(delivery)
        self._commitments.reported(report.transaction_uid, at=self._clock())
        return True

    def gave_up(self, delivery: Delivery, error: str) -> None:
        """No report came, as often as it was asked for."""
        now = self._clock()
        self._metrics.deliveries.labels(delivery.destination, "dead").inc()
        state = self._outbox.dead(delivery, status=delivery.status, error=error, at=now)
        self._tell_job_ended(delivery, state, now)

    def _committed(self, delivery: Delivery) -> None:
        now = self._clock()
        state = self._outbox.delivered(delivery, status=delivery.status, at=now)
        self._metrics.deliveries.labels(delivery.destination, Verdict.DELIVERED.value).inc()
        self._tell_job_ended(delivery, state, now)

    def _failed(self, delivery: Delivery, reason: int, jitter: float) -> None:
        now, error = self._clock(), f"not committed: 0x{reason:04X}"
        verdict = commitment_verdict(reason)
        delay = self._retry.delay_s(delivery.attempts, jitter=jitter)
        label, state = "not_committed", None
        if verdict is Verdict.PERMANENT:
            label, state = verdict.value, self._outbox.refused(delivery, status=reason, error=error, at=now)
        elif delay is None:
            label, state = "dead", self._outbox.dead(delivery, status=reason, error=error, at=now)
        else:
            self._outbox.send_again(delivery, status=reason, error=error, until=now + delay)
        self._metrics.deliveries.labels(delivery.destination, label).inc()
        log.warning("not_committed", extra={"destination": delivery.destination, "detail": error})
        self._tell_job_ended(delivery, state, now)

    def _tell_job_ended(self, delivery: Delivery, state: JobState | None, now: float) -> None:
        since = self._set_clock.trusted_since()
        tell_job_ended(delivery, state, history=self._history, metrics=self._metrics, now=now, trusted_since=since)


class CommitStage:
    """Each destination that commits has its own, beside its DeliverStage: sending goes on while this waits."""

    def __init__(
        self,
        destination: str,
        *,
        request: Request,
        outbox: Outbox,
        commitments: Commitments,
        reports: CommitmentReports,
        retry: RetryPolicy,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._destination = destination
        self._request = request
        self._outbox = outbox
        self._commitments = commitments
        self._reports = reports
        self._retry = retry
        self._timeout_s = timeout_s
        self._clock = clock

    def turn(self) -> bool:
        """Ask for the commitment of one job's sent results; whether there were any.

        Without a report within the time limit it is asked again, in a new transaction; a late report on the old one
        counts, too.
        """
        now = self._clock()
        due = self._commitments.to_ask(
            self._destination, at=now, longest_wait_s=max(self._timeout_s, self._retry.cap_s)
        )
        if not due:
            return False
        sent = [delivery for delivery in due if not self._out_of_attempts(delivery)]
        if sent:
            self._ask(sent, now)
        return True

    def _out_of_attempts(self, delivery: Delivery) -> bool:
        if delivery.transaction_uid is None or self._retry.delay_s(delivery.attempts + 1, jitter=0) is not None:
            return False
        self._reports.gave_up(delivery, f"no report on commitment within {self._timeout_s:g} s")
        return True

    def _ask(self, sent: Sequence[Delivery], now: float) -> None:
        transaction_uid = str(generate_uid(prefix=None))
        self._commitments.asking(sent, transaction_uid, at=now, until=now + self._timeout_s)
        point("commitment_noted")
        try:
            self._request(transaction_uid, as_outgoing(sent), reported=self._reports.reported)
            point("commitment_asked")
        except DeliveryError as problem:
            log.warning("commitment_not_asked", extra={"destination": self._destination, "detail": problem.detail})
            self._postpone(sent, problem.detail)
        except Exception as problem:
            self._postpone(sent, f"{type(problem).__name__}: {problem}")
            raise

    def _postpone(self, sent: Sequence[Delivery], error: str) -> None:
        """It stays sent; the failed request is an attempt, as the report was that did not come before it."""
        now, jitter = self._clock(), random.random()
        for delivery in sent:
            attempts = delivery.attempts + (delivery.transaction_uid is not None) + 1
            if (delay := self._retry.delay_s(attempts, jitter=jitter)) is None:
                self._reports.gave_up(delivery, error)
            else:
                self._outbox.postponed(delivery, status=delivery.status, error=error, until=now + delay)
