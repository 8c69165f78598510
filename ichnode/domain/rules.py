"""Rules as data, and decide(): which series of a study is analysed, under which rule, and why each other one is not.

A rule matches a series when all its clauses hold. A clause tests one field, a DICOM keyword or a computed name of
`domain.facts`, with operators:

    plain value     equals (numbers as numbers, text without padding); of a multi-valued tag, any value
    in              equals one of a list
    regex           is found in the text
    range           lies in [low, high], ends included
    exists          is there (true) or not (false)
    not             the plain value or the operators inside do not hold

`IMPLIED` clauses are added to every rule that does not name their field, so that a rule without a match still takes
only an original, soft-kernel, non-contrast head series with enough slices. The first matching rule takes a series;
of several series that one rule takes, `preference` picks one for the study.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ichnode.domain.facts import COMPUTED, SeriesFacts
from ichnode.domain.geometry import MIN_COVERAGE_MM, MIN_SLICES
from ichnode.domain.modalities import MODALITIES
from ichnode.domain.reasons import EXPLAINED, Reason


@dataclass(frozen=True, slots=True)
class Clause:
    """`field` `operator` `operand`, as the configuration has it."""

    field: str
    operator: str
    operand: Any

    def holds(self, value: Any) -> bool:
        """Whether `value` (None: the tag is absent or empty) passes the test."""
        return _OPERATORS[self.operator](value, self.operand)

    def __str__(self) -> str:
        inner = isinstance(self.operand, tuple) and self.operand and isinstance(self.operand[0], Clause)
        shown = " and ".join(map(str, self.operand)) if inner else repr(getattr(self.operand, "pattern", self.operand))
        return f"{self.field} {self.operator} {shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which series to analyse, with which pipelines, and where the results go."""

    name: str
    match: tuple[Clause, ...]
    run: tuple[str, ...]
    send_to: tuple[str, ...]
    priority: str = "routine"  # or "stat"
    report_ignored: bool = False  # send a report that says why, when no series of a study is analysed
    withdraw_rejected: bool = False  # results that a person rejects are withdrawn from the destinations
    prefer_thickness_mm: float = 5.0  # of several matching series, the one nearest to this slice thickness


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens with one series. `rule` is the rule that took it, or the one that came closest."""

    series_instance_uid: str
    analyse: bool
    reason: Reason
    detail: str
    rule: Rule | None
    report: bool = False  # send a report that says why it was not analysed


IMPLIED = (
    Clause("derived", "equals", False),
    Clause("head", "equals", True),
    Clause("contrast", "equals", False),
    Clause("kernel_class", "not", "bone"),
    Clause("slice_count", "range", (MIN_SLICES, float("inf"))),
)
_REASON_OF_FIELD = {
    "derived": Reason.DERIVED,
    "head": Reason.NOT_HEAD,
    "contrast": Reason.CONTRAST,
    "kernel_class": Reason.BONE_KERNEL,
    "slice_count": Reason.TOO_FEW_SLICES,
}
_WORTH_A_REPORT = frozenset({Reason.CONTRAST, Reason.BONE_KERNEL, Reason.TOO_FEW_SLICES, Reason.NO_RULE})


def parse_match(match: Mapping[str, Any], is_keyword: Callable[[str], bool]) -> tuple[Clause, ...]:
    """The clauses of a `match` table. Raises ValueError("field: reason") on the first that cannot be read."""
    clauses: list[Clause] = []
    for field, test in match.items():
        if field not in COMPUTED and not is_keyword(field):
            raise ValueError(f"{field}: is neither a DICOM keyword nor one of {', '.join(sorted(COMPUTED))}")
        for operator, operand in test.items() if isinstance(test, Mapping) else (("equals", test),):
            clauses.append(Clause(field, operator, _checked(field, operator, operand)))
    return tuple(clauses)


def decide(series: Sequence[SeriesFacts], rules: Sequence[Rule]) -> tuple[Decision, ...]:
    """One decision for each series, in the order given."""
    decisions = {facts.series_instance_uid: _decide_alone(facts, rules) for facts in series}
    for rule in rules:
        taken = [f for f in series if _is_taken(decisions[f.series_instance_uid], rule)]
        best = min(taken, key=lambda f: preference(f, rule), default=None)
        for facts in taken:
            if best is not None and facts is not best:
                decisions[facts.series_instance_uid] = _ignore(
                    facts,
                    Reason.BETTER_SERIES,
                    rule,
                    f"series {best.series_number} ({best.thickness:g} mm) is preferred",
                )
        if rule.report_ignored and not any(d.analyse for d in decisions.values()):
            decisions |= {
                f.series_instance_uid: _reported(decisions[f.series_instance_uid])
                for f in series
                if decisions[f.series_instance_uid].rule is rule and f.head
            }
    return tuple(decisions[facts.series_instance_uid] for facts in series)


def preference(facts: SeriesFacts, rule: Rule) -> tuple[Any, ...]:
    """Sort key: a whole head first, soft kernel, nearest to the preferred thickness, most coverage, lowest number.

    Older scanners send skull base and cerebrum as two series.
    """
    return (
        0 < facts.coverage < MIN_COVERAGE_MM,
        facts.kernel_class != "soft",
        abs((facts.thickness or facts.spacing) - rule.prefer_thickness_mm),
        -facts.coverage,
        facts.series_number,
        facts.series_instance_uid,
    )


def failing_clauses(facts: SeriesFacts, rule: Rule) -> tuple[Clause, ...]:
    """The clauses of `rule`, its own and the implied ones, that do not hold."""
    return tuple(c for c in all_clauses(rule) if not c.holds(value_of(facts, c.field)))


def all_clauses(rule: Rule) -> tuple[Clause, ...]:
    """The clauses of `rule`: the implied ones that it does not replace, then its own."""
    named = {clause.field for clause in rule.match}
    return (*(c for c in IMPLIED if c.field not in named), *rule.match)


def value_of(facts: SeriesFacts, field: str) -> Any:
    """The value that a clause on `field` sees."""
    return getattr(facts, field) if field in COMPUTED else facts.tags.get(field)


def _decide_alone(facts: SeriesFacts, rules: Sequence[Rule]) -> Decision:
    for reason, applies in (
        (Reason.OWN_RESULT, facts.own_results),
        (Reason.NOT_CT_IMAGE, not facts.sop_class_analysable),
        (Reason.MIXED_PATIENTS, not facts.one_patient),
        (Reason.LOCALIZER, facts.localizer),
        (Reason.PURGED, facts.purged > 0),
    ):
        if applies:
            return _ignore(facts, reason, None, EXPLAINED[reason])
    closest: tuple[int, Rule, Clause] | None = None
    for rule in rules:
        failing = failing_clauses(facts, rule)
        if not failing:
            return Decision(
                series_instance_uid=facts.series_instance_uid,
                analyse=True,
                reason=Reason.CHOSEN,
                detail=f"{facts.slice_count} slices of {facts.thickness:g} mm, kernel {facts.kernel_class}",
                rule=rule,
            )
        if closest is None or len(failing) < closest[0]:
            closest = (len(failing), rule, failing[0])
    if closest is None:
        return _ignore(facts, Reason.NO_RULE, None, "there is no rule")
    _, rule, clause = closest
    reason = _REASON_OF_FIELD.get(clause.field, Reason.NO_RULE)
    found = f"{clause.field} is {_shown(value_of(facts, clause.field))}"
    return _ignore(facts, reason, rule, f"{found}; rule {rule.name} wants {clause}")


def _is_taken(decision: Decision, rule: Rule) -> bool:
    return decision.analyse and decision.rule is rule


def _ignore(facts: SeriesFacts, reason: Reason, rule: Rule | None, detail: str) -> Decision:
    return Decision(
        series_instance_uid=facts.series_instance_uid, analyse=False, reason=reason, detail=detail, rule=rule
    )


def _reported(decision: Decision) -> Decision:
    return replace(decision, report=decision.reason in _WORTH_A_REPORT)


def _shown(value: Any) -> str:
    return "absent" if value is None else f"{value:.4g}" if isinstance(value, float) else repr(value)


def _checked(field: str, operator: str, operand: Any) -> Any:
    """The operand in the form that the operator wants; ValueError names the field."""
    if operator not in _OPERATORS:
        raise ValueError(f"{field}: unknown operator {operator!r}; known: {', '.join(_OPERATORS)}")
    if operator == "range":
        _check_range(field, operand)
    if field == "Modality" and operator in ("equals", "in", "not"):
        _check_modalities(operand)
    if operator == "in" and not isinstance(operand, list | tuple):
        raise ValueError(f"{field}: in wants a list")
    if operator == "exists" and not isinstance(operand, bool):
        raise ValueError(f"{field}: exists wants true or false")
    if operator == "regex":
        try:
            return re.compile(operand)
        except (re.error, TypeError) as problem:
            raise ValueError(f"{field}: not a regular expression: {problem}") from None
    if operator == "not" and isinstance(operand, Mapping):
        return tuple(Clause(field, op, _checked(field, op, inner)) for op, inner in operand.items())
    return tuple(operand) if isinstance(operand, list) else operand


def _check_range(field: str, operand: Any) -> None:
    if not _is_pair(operand):
        raise ValueError(f"{field}: range wants two numbers: write {field} = {{ range = [LOW, HIGH] }}")
    low, high = operand
    if not low <= high:
        raise ValueError(f"{field}: range [{low}, {high}] holds nothing: write {field} = {{ range = [{high}, {low}] }}")


def _check_modalities(operand: Any) -> None:
    """Values are compared as they are written: "ct" would match no CT, and nobody would say so."""
    for value in _values(operand) if not isinstance(operand, Mapping) else ():
        if not isinstance(value, str):
            raise ValueError(f"Modality: {value!r} is no text")
        term = value.strip()
        if term not in MODALITIES and term.upper() in MODALITIES:  # DICOM allows terms of one's own, too
            raise ValueError(f'Modality: {value!r} is in capitals: write "{term.upper()}"')


def _is_pair(operand: Any) -> bool:
    numbers = isinstance(operand, list | tuple) and len(operand) == 2
    return numbers and all(isinstance(v, int | float) and not isinstance(v, bool) for v in operand)


def _values(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else () if value is None else (value,)


def _same(value: Any, operand: Any) -> bool:
    if isinstance(operand, bool) or isinstance(value, bool):
        return value is operand
    left, right = _as_number(value), _as_number(operand)
    if left is not None and right is not None:
        return left == right
    return str(value).strip() == str(operand).strip()


def _as_number(value: Any) -> float | None:
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return None


def _equals(value: Any, operand: Any) -> bool:
    if isinstance(operand, tuple):
        values = _values(value)
        return len(values) == len(operand) and all(map(_same, values, operand))
    return any(_same(v, operand) for v in _values(value))


def _in_range(value: Any, operand: Sequence[float]) -> bool:
    numbers = [_as_number(v) for v in _values(value)]
    return any(n is not None and operand[0] <= n <= operand[1] for n in numbers)


def _not(value: Any, operand: Any) -> bool:
    if isinstance(operand, tuple) and operand and isinstance(operand[0], Clause):
        return not all(clause.holds(value) for clause in operand)
    return not _equals(value, operand)


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": _equals,
    "in": lambda value, operand: any(_same(v, o) for v in _values(value) for o in operand),
    "regex": lambda value, operand: any(operand.search(str(v)) for v in _values(value)),
    "range": _in_range,
    "exists": lambda value, operand: bool(_values(value)) is operand,
    "not": _not,
}
