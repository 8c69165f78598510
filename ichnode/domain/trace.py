"""Trace: why a series is decided as it is, clause by clause, in plain values for people to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ichnode.domain.facts import SeriesFacts
from ichnode.domain.rules import Clause, Decision, Rule, all_clauses, value_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedClause:
    """One test of one rule on one series."""

    text: str
    seen: str  # the value that it was tested on
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRule:
    """One rule on one series."""

    name: str
    clauses: tuple[TracedClause, ...]

    @property
    def holds(self) -> bool:
        """Whether all clauses do."""
        return all(clause.holds for clause in self.clauses)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedSeries:
    """One series under all rules, and what comes of it."""

    series_instance_uid: str
    description: str
    series_number: int
    slice_count: int
    analyse: bool
    reason: str
    detail: str
    rule: str | None
    rules: tuple[TracedRule, ...]


def traced(facts: SeriesFacts, decision: Decision, rules: Sequence[Rule], *, description: str) -> TracedSeries:
    """The decision on the series, and each clause of each rule behind it."""
    return TracedSeries(
        series_instance_uid=facts.series_instance_uid,
        description=description,
        series_number=facts.series_number,
        slice_count=facts.slice_count,
        analyse=decision.analyse,
        reason=decision.reason.value,
        detail=decision.detail,
        rule=decision.rule.name if decision.rule else None,
        rules=tuple(
            TracedRule(name=rule.name, clauses=tuple(_traced(clause, facts) for clause in all_clauses(rule)))
            for rule in rules
        ),
    )


def _traced(clause: Clause, facts: SeriesFacts) -> TracedClause:
    seen = value_of(facts, clause.field)
    return TracedClause(text=str(clause), seen=_shown(seen), holds=clause.holds(seen))


def _shown(value: Any) -> str:
    return "absent" if value is None else f"{value:.4g}" if isinstance(value, float) else repr(value)
