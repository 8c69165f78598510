"""Deliver: the outbox of one destination, one job a turn over one association."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ichnode.dicom.scu import Outcome, Outgoing
from ichnode.dicom.statuses import Verdict
from ichnode.domain.job import JobState, retry_delay_s
from ichnode.errors import DeliveryError, StaleClaim
from ichnode.faults import point
from ichnode.metrics import Metrics
from ichnode.stages.fallback import Fallback
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

    def delay_s(self, attempts: int, *, jitter: float) -> float | None:
        """Seconds to wait after so many attempts; None: enough have failed."""
        if attempts >= self.max_attempts:
            return None
        return retry_delay_s(attempts, first_s=self.first_s, cap_s=self.cap_s, jitter=jitter)


# What sends objects to a destination: an outcome for each, in order, those of one request together; nothing is sent
# before the next outcomes are asked for. DeliveryError where the rest was not taken.
Send = Callable[[Sequence[Outgoing]], Iterator[Sequence[Outcome]]]


class DeliverStage:
    """Each destination has its own, in its own thread: a dead one delays nobody else."""

    def __init__(
        self,
        destination: str,
        *,
        send: Send,
        commits: bool,
        fallback: Fallback | None,
        outbox: Outbox,
        history: History,
        metrics: Metrics,
        retry: RetryPolicy,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`commits`: what `send` delivered still waits for commitment. Without `fallback` every refusal counts."""
        self._destination = destination
        self._send = send
        self._commits = commits
        self._fallback = fallback
        self._outbox = outbox
        self._history = history
        self._metrics = metrics
        self._retry = retry
        self._clock = clock
        self._monotonic = monotonic
        self._rests_until = 0.0  # of the monotonic clock
        self._set_clock = SetClock(clock, monotonic)

    def turn(self, job_id: int | None = None) -> bool:
        """Send what is due of one job (of `job_id`); whether there was anything.

        What fails in a way that nobody expects is postponed like any failure, and raised. The stage then also rests, in
        case the ledger could not note that.
        """
        self._set_clock.look()
        if self._monotonic() < self._rests_until:
            return False
        due = self._outbox.due(self._destination, at=self._clock(), longest_wait_s=self._retry.cap_s, job_id=job_id)
        if not due:
            return False
        began, jitter = self._monotonic(), random.random()  # one for the turn: what failed together is tried together
        offered = [delivery for delivery in due if not self._withheld(delivery)]
        open_ones = list(offered)
        try:
            for outcome in self._outcomes(offered) if offered else ():
                point("result_taken")
                self._note(open_ones[0], outcome, jitter)
                open_ones.pop(0)
                point("delivery_noted")
        except StaleClaim as gone:
            log.warning("claim_gone", extra={"destination": self._destination, "detail": str(gone)})
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

    def _outcomes(self, offered: Sequence[Delivery]) -> Iterator[Outcome]:
        """What became of each. Raises StaleClaim before a request with what was cancelled, or claimed by another node.

        What a request has taken is told, whatever was cancelled meanwhile.
        """
        answers, known = self._send(as_outgoing(offered)), 0
        while known < len(offered):
            self._outbox.expect_claim(offered[known])
            if (outcomes := next(answers, None)) is None:
                return
            yield from outcomes
            known += len(outcomes)

    def _not_sent(self, deliveries: Sequence[Delivery], problem: DeliveryError, jitter: float) -> None:
        verdict = Verdict.PERMANENT if problem.permanent else Verdict.TRANSIENT
        for delivery in deliveries:
            self._note(delivery, Outcome(verdict=verdict, status=problem.status, detail=problem.detail), jitter)

    def _note(self, delivery: Delivery, outcome: Outcome, jitter: float) -> None:
        now, status, detail = self._clock(), outcome.status, outcome.detail
        label, job_state = outcome.verdict.value, None
        if outcome.verdict is Verdict.DELIVERED and self._fallback:
            self._fallback.taken(delivery)
        if outcome.verdict is Verdict.DELIVERED and self._commits:
            label = "sent"
            self._outbox.sent(delivery, status=status, at=now)
        elif outcome.verdict is Verdict.DELIVERED:
            job_state = self._outbox.delivered(delivery, status=status, at=now)
        elif outcome.verdict is not Verdict.TRANSIENT and self._fallback and self._fallback.replaces(delivery, outcome):
            label = "replaced"
            job_state = self._outbox.replaced(delivery, status=status, error=detail, at=now, offered=True)
        elif outcome.verdict is not Verdict.TRANSIENT:
            job_state = self._outbox.refused(delivery, status=status, error=detail, at=now)
        elif (delay := self._retry.delay_s(delivery.attempts + 1, jitter=jitter)) is None:
            label, job_state = "dead", self._outbox.dead(delivery, status=status, error=detail, at=now)
        else:
            self._outbox.postponed(delivery, status=status, error=detail, until=now + delay)
        self._tell(delivery, label, job_state, now)

    def _withheld(self, delivery: Delivery) -> bool:
        """Whether it is not offered, for it would be refused; then it is replaced."""
        if not self._fallback or not (known := self._fallback.known_to_refuse(delivery)):
            return False
        now, error = self._clock(), f"not offered: {known.detail}"
        job_state = self._outbox.replaced(delivery, status=known.status, error=error, at=now, offered=False)
        self._tell(delivery, "replaced", job_state, now)
        return True

    def _tell(self, delivery: Delivery, label: str, job_state: JobState | None, now: float) -> None:
        self._metrics.deliveries.labels(self._destination, label).inc()
        tell_job_ended(
            delivery,
            job_state,
            history=self._history,
            metrics=self._metrics,
            now=now,
            trusted_since=self._set_clock.trusted_since(),
        )


def as_outgoing(deliveries: Sequence[Delivery]) -> list[Outgoing]:
    """What is sent, or asked for."""
    return [
        Outgoing(sop_class_uid=d.sop_class_uid, sop_instance_uid=d.sop_instance_uid, file=d.file) for d in deliveries
    ]


def tell_job_ended(
    delivery: Delivery,
    state: JobState | None,
    *,
    history: History,
    metrics: Metrics,
    now: float,
    trusted_since: float,
) -> None:
    """Log and measure, where `delivery` was the last one open of its job, which is now in `state`.

    `trusted_since`: when the clock was last set; what was received before is not measured.
    """
    if state is None:
        return
    job = history.job(delivery.job_id)
    if job is not None and state is JobState.DONE:
        received_at = history.last_received_at(job)
        if trusted_since <= received_at <= now:
            metrics.last_image_to_result_seconds.observe(now - received_at)
    log.info("job_ended", extra={"job_id": delivery.job_id, "state": state, "destination": delivery.destination})
