"""By hand: what a person may ask of a stored study: what the rules make of it, and a series under another rule."""

from collections.abc import Sequence
from dataclasses import replace

from ichnode.domain.job import Job
from ichnode.domain.reasons import Reason
from ichnode.domain.rules import Decision, Rule, failing_clauses
from ichnode.domain.trace import TracedSeries, traced
from ichnode.stages.decide import decide_study, planned
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import PlannedJob
from ichnode.storage.studies import Studies


class ByHand:
    """Reads the ledger and headers of stored files; changes nothing."""

    def __init__(
        self, *, studies: Studies, intake: Intake, history: History, rules: Sequence[Rule], results_sha256: str
    ) -> None:
        self._studies, self._intake, self._history = studies, intake, history
        self._rules, self._results_sha256 = rules, results_sha256

    def trace(self, study_instance_uid: str) -> tuple[TracedSeries, ...]:
        """Each series of the newest snapshot under the configured rules; none without a snapshot. Raises OSError."""
        last = self._studies.newest_snapshot(study_instance_uid)
        if last is None:
            return ()
        snapshot = self._intake.snapshot(study_instance_uid, last_instance_id=last.last_instance_id)
        names = [str(series.instances[0].header.get("SeriesDescription", "")) for series in snapshot.series]
        return tuple(
            traced(facts, decision, self._rules, description=name)
            for name, (facts, decision) in zip(names, decide_study(snapshot, self._rules), strict=True)
        )

    def plan(self, job: Job, rule_name: str) -> PlannedJob | None:
        """The job of the same series under a rule of that name; None when rule or instances are not there.

        What the rule does not hold of the series stands in the job's detail. Gates still look at it. Raises OSError.
        """
        rule = next((rule for rule in self._rules if rule.name == rule_name), None)
        snapshot = self._intake.snapshot(job.study_instance_uid, last_instance_id=self._history.snapshot_end(job))
        series = next((s for s in snapshot.series if s.series_instance_uid == job.series_instance_uid), None)
        if rule is None or series is None:
            return None
        [(facts, _)] = decide_study(replace(snapshot, series=(series,)), [rule])
        failing = failing_clauses(facts, rule)
        decision = Decision(
            series_instance_uid=series.series_instance_uid,
            analyse=True,
            reason=Reason.BY_HAND,
            detail="fits the rule" if not failing else f"although not: {'; '.join(map(str, failing))}",
            rule=rule,
        )
        return planned(series, decision, self._results_sha256)
