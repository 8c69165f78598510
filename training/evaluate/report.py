"""Report: all figures of each contender over the cases, and what may be said of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.evaluate.bootstrap import Figure
from training.evaluate.score import Score
from training.evaluate.summary import (
    DICE_BY_TYPE,
    LESIONS_BY_TYPE,
    LESIONS_BY_VOLUME,
    MEASURES,
    PATIENTS_BY_VOLUME,
    Summary,
    by_style,
    dice_gain,
    summarize,
)

SIMULATED = "SIMULATED PATIENTS - RESEARCH USE ONLY"
MIXED = "REAL AND SIMULATED PATIENTS - RESEARCH USE ONLY"
REAL = "RESEARCH USE ONLY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All figures of one contender."""

    contender: str
    scores: Sequence[Score]
    styles: dict[str, Summary]  # MEASURES: of ALL, then of each style
    dice_by_type: Summary
    lesions_by_type: Summary
    patients_by_volume: Summary
    lesions_by_volume: Summary
    dice_gain: dict[str, Figure]  # over each other contender, on the same cases


def reports(scores: Sequence[Score]) -> list[Report]:
    """One for each contender, in the order of their first score."""
    of = {name: [s for s in scores if s.contender == name] for name in dict.fromkeys(s.contender for s in scores)}
    return [
        Report(
            contender=name,
            scores=own,
            styles={style: summarize(part, MEASURES) for style, part in by_style(own).items()},
            dice_by_type=summarize(own, DICE_BY_TYPE),
            lesions_by_type=summarize(own, LESIONS_BY_TYPE),
            patients_by_volume=summarize(own, PATIENTS_BY_VOLUME),
            lesions_by_volume=summarize(own, LESIONS_BY_VOLUME),
            dice_gain={other: dice_gain(own, theirs) for other, theirs in of.items() if other != name},
        )
        for name, own in of.items()
    ]


def provenance(is_simulated: Iterable[bool]) -> str:
    """The line that every table and plot carries, by what its patients are."""
    kinds = set(is_simulated)
    return MIXED if len(kinds) == 2 else SIMULATED if kinds == {True} else REAL
