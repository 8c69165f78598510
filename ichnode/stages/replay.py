"""Replay: stored studies under other rules, without acting: what was decided of each series, and what would be now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ichnode.domain.facts import SeriesFacts
from ichnode.domain.progress import Tell, silently
from ichnode.domain.rules import Rule, failing_clauses, value_of
from ichnode.domain.study import StudySnapshot
from ichnode.stages.decide import decide_study
from ichnode.storage.intake import Intake
from ichnode.storage.studies import Studies


class Change(StrEnum):
    """What other rules make of a series."""

    SAME = "same"
    STARTS = "starts"  # was ignored, would be analysed
    STOPS = "stops"  # was analysed, would be ignored
    OTHER_RULE = "other_rule"  # analysed as before, under a rule of another name
    OTHER_REASON = "other_reason"  # ignored as before, for another reason
    NOT_HERE = "not_here"  # its instances were purged, or cannot be read: nothing can be said


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A decision in plain words."""

    decision: str  # analyse, ignore
    rule: str | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One series."""

    study_instance_uid: str
    series_instance_uid: str
    series_description: str
    job_id: int | None
    then: Outcome | None  # None: there was no job of this series
    now: Outcome
    change: Change
    trace: Mapping[str, tuple[str, ...]]  # for each rule, the clauses that do not hold, and the value seen


def replay(
    studies: Studies, intake: Intake, rules: Sequence[Rule], *, since: float, tell: Tell = silently
) -> Iterator[Replayed]:
    """Every series of the studies decided since then (seconds since the epoch), the oldest study first."""
    stored = studies.since(since)
    for number, study in enumerate(stored):
        tell("deciding studies", number, len(stored))
        snapshot = intake.snapshot(study.study_instance_uid, last_instance_id=study.last_instance_id)
        decisions = studies.decisions(study.study_instance_uid)
        try:
            decided = decide_study(snapshot, rules)
        except OSError as problem:
            yield from _unreadable(snapshot, problem.strerror or str(problem))
            continue
        for series, (facts, decision) in zip(snapshot.series, decided, strict=True):
            uid = series.series_instance_uid
            known = decisions.get(uid)
            then = None
            if known is not None:
                word = _word(known.analyse)
                then = Outcome(decision=word, rule=known.rule, reason=known.reason, detail=known.detail)
            now = Outcome(
                decision=_word(decision.analyse),
                rule=decision.rule.name if decision.rule else None,
                reason=decision.reason.value,
                detail=decision.detail,
            )
            yield Replayed(
                study_instance_uid=study.study_instance_uid,
                series_instance_uid=uid,
                series_description=str(series.instances[0].header.get("SeriesDescription", "")),
                job_id=known.job_id if known else None,
                then=then,
                now=now,
                change=_change(then, now, facts),
                trace=_trace(facts, rules),
            )


def _word(analyse: bool) -> str:
    return "analyse" if analyse else "ignore"


def _change(then: Outcome | None, now: Outcome, facts: SeriesFacts) -> Change:
    if facts.purged:
        return Change.NOT_HERE
    was = then.decision if then else "ignore"
    if was != now.decision:
        return Change.STARTS if now.decision == "analyse" else Change.STOPS
    if then is None:
        return Change.SAME
    if now.decision == "analyse":
        return Change.SAME if then.rule == now.rule else Change.OTHER_RULE
    return Change.SAME if then.reason == now.reason else Change.OTHER_REASON


def _trace(facts: SeriesFacts, rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
    """Why each rule takes the series or does not; a rule without a line takes it, or another series before it."""
    return {
        rule.name: tuple(
            f"{clause.field} is {_shown(value_of(facts, clause.field))}, wanted: {clause}"
            for clause in failing_clauses(facts, rule)
        )
        for rule in rules
    }


def _shown(value: object) -> str:
    return "absent" if value is None else repr(value)


def _unreadable(snapshot: StudySnapshot, why: str) -> Iterator[Replayed]:
    for series in snapshot.series:
        yield Replayed(
            study_instance_uid=snapshot.study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            series_description=str(series.instances[0].header.get("SeriesDescription", "")),
            job_id=None,
            then=None,
            now=Outcome(decision="ignore", rule=None, reason="unreadable", detail=why),
            change=Change.NOT_HERE,
            trace={},
        )
