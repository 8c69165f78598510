"""Assemble: studies that count as complete become snapshots, and their series jobs."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ichnode.domain.rules import Rule
from ichnode.domain.study import Arrival, StudySnapshot, evidence_of_completeness
from ichnode.metrics import Metrics
from ichnode.stages.decide import plan
from ichnode.storage.intake import Intake, WaitingStudy
from ichnode.storage.ledger import Ledger

log = logging.getLogger(__name__)


class AssembleStage:
    """Looks at every waiting study once a turn."""

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
        self._listening_since: float | None = None  # nobody could send before: the quiet time starts anew
        self._seen: dict[str, tuple[int, StudySnapshot]] = {}  # the last snapshot read of each waiting study

    def turn(self) -> bool:
        """Take the snapshots that are due; whether there was one. A study that fails never stops the others."""
        if self._listening_since is None:
            self._listening_since = self._clock()
        waiting = self._intake.waiting_studies()
        names = {study.study_instance_uid for study in waiting}
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        taken = 0
        for study in waiting:
            try:
                taken += self._take(study)
            except Exception:
                log.exception("study_not_assembled", extra={"study_instance_uid": study.study_instance_uid})
        return taken > 0

    def _take(self, study: WaitingStudy) -> bool:
        now = self._clock()
        snapshot = self._snapshot(study)
        evidence = evidence_of_completeness(
            snapshot, self._heard(study.arrival, now), now=now, quiet_s=self._quiet_s, max_wait_s=self._max_wait_s
        )
        if evidence is None:
            return False
        began = time.perf_counter()
        planned = plan(snapshot, self._rules, results_sha256=self._results_sha256)
        opened = self._ledger.record_decisions(
            study.study_instance_uid,
            planned,
            last_instance_id=study.last_instance_id,
            last_received_at=study.arrival.last_received_at,
            evidence=evidence,
            at=now,
        )
        if opened is None:
            return False  # an instance came in meanwhile; the next turn sees it
        self._metrics.stage_seconds.labels("decide").observe(time.perf_counter() - began)
        log.info(
            "study_complete",
            extra={"study_instance_uid": study.study_instance_uid, "reason": evidence, "count": len(opened)},
        )
        for job in opened:
            self._metrics.series_decisions.labels(job.decision, job.reason).inc()
        self._wake()
        return True

    def _heard(self, arrival: Arrival, now: float) -> Arrival:
        """The arrival with times between the start of listening and now: downtime and clock steps are no silence."""
        since = self._listening_since or now
        first, last = (min(max(at, since), now) for at in (arrival.first_received_at, arrival.last_received_at))
        return replace(arrival, first_received_at=first, last_received_at=last)

    def _snapshot(self, study: WaitingStudy) -> StudySnapshot:
        last_id, snapshot = self._seen.get(study.study_instance_uid, (0, None))
        if snapshot is None or last_id != study.last_instance_id:
            snapshot = self._intake.snapshot(study.study_instance_uid, last_instance_id=study.last_instance_id)
            self._seen[study.study_instance_uid] = (study.last_instance_id, snapshot)
        return snapshot
