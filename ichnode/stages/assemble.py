"""Assemble: studies that count as complete become snapshots, and their series jobs."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ichnode.domain.job import retry_delay_s
from ichnode.domain.rules import Rule
from ichnode.domain.study import StudySnapshot, Wholeness, evidence_of_completeness, wholeness
from ichnode.faults import point
from ichnode.metrics import Metrics
from ichnode.stages.decide import plan
from ichnode.storage.intake import Intake, WaitingStudy
from ichnode.storage.ledger import Ledger

log = logging.getLogger(__name__)

_FIRST_REST_S, _LONGEST_REST_S = 1.0, 4.0


@dataclass(slots=True)
class _Watched:
    """A waiting study as this process has seen it come in; times of the monotonic clock."""

    since: float
    last_instance_id: int
    changed: float
    told: Wholeness | None = None  # by its instances, of which thousands may wait: they are read again when it is due
    failures: int = 0
    rests_until: float = 0.0  # after a failure: each is a traceback in the log


class AssembleStage:
    """Looks at every waiting study once a turn.

    How long a study has been quiet is how long this process has seen no change of it. The times in its rows are not
    used: they come from a clock that may be set, and nobody could send while the node was down.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        ledger: Ledger,
        metrics: Metrics,
        rules: Sequence[Rule],
        results_sha256: str,
        quiet_s: float,
        max_wait_s: float,
        clock: Callable[[], float],
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._ledger = ledger
        self._metrics = metrics
        self._rules = rules
        self._results_sha256 = results_sha256
        self._quiet_s = quiet_s
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._wake = wake  # the analysing loop
        self._monotonic = monotonic
        self._watched: dict[str, _Watched] = {}

    def turn(self) -> bool:
        """Take the snapshots that are due; whether there was one. A study that fails never stops the others."""
        waiting = self._intake.waiting_studies()
        self._watched = {study.study_instance_uid: self._watch(study) for study in waiting}
        taken = 0
        for study in waiting:
            watched = self._watched[study.study_instance_uid]
            if self._monotonic() < watched.rests_until:
                continue
            try:
                taken += self._take(study)
            except Exception:
                watched.failures += 1
                rest_s = retry_delay_s(watched.failures, first_s=_FIRST_REST_S, cap_s=_LONGEST_REST_S, jitter=0)
                watched.rests_until = self._monotonic() + rest_s
                log.exception("study_not_assembled", extra={"study_instance_uid": study.study_instance_uid})
        return taken > 0

    def _take(self, study: WaitingStudy) -> bool:
        watched = self._watched[study.study_instance_uid]
        if watched.told is None:
            watched.told = wholeness(self._snapshot(study))
        evidence = evidence_of_completeness(
            watched.told,
            replace(study.arrival, first_received_at=watched.since, last_received_at=watched.changed),
            now=self._monotonic(),
            quiet_s=self._quiet_s,
            max_wait_s=self._max_wait_s,
        )
        if evidence is None:
            return False
        began = time.perf_counter()
        planned = plan(self._snapshot(study), self._rules, results_sha256=self._results_sha256)
        opened = self._ledger.record_decisions(
            study.study_instance_uid,
            planned,
            last_instance_id=study.last_instance_id,
            last_received_at=study.arrival.last_received_at,
            evidence=evidence,
            at=self._clock(),
        )
        if opened is None:
            return False  # an instance came in meanwhile; the next turn sees it
        point("study_decided", study.study_instance_uid)
        del self._watched[study.study_instance_uid]  # what comes in from now on waits anew
        self._metrics.stage_seconds.labels("decide").observe(time.perf_counter() - began)
        log.info(
            "study_complete",
            extra={"study_instance_uid": study.study_instance_uid, "reason": evidence, "count": len(opened)},
        )
        for job in opened:
            self._metrics.series_decisions.labels(job.decision, job.reason).inc()
        self._wake()
        return True

    def _snapshot(self, study: WaitingStudy) -> StudySnapshot:
        return self._intake.snapshot(study.study_instance_uid, last_instance_id=study.last_instance_id)

    def _watch(self, study: WaitingStudy) -> _Watched:
        """What was seen of the study until now; the same object while nothing came in."""
        now, known = self._monotonic(), self._watched.get(study.study_instance_uid)
        if known is None:
            return _Watched(since=now, last_instance_id=study.last_instance_id, changed=now)
        if known.last_instance_id == study.last_instance_id:
            return known
        return _Watched(since=known.since, last_instance_id=study.last_instance_id, changed=now)
