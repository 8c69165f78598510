"""Summary: the figures of one contender over many cases, each with its interval, for each style and all together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.manifest import TYPES
from training.evaluate.bootstrap import Figure, Statistic, Values, figure, share
from training.evaluate.calibration import expected_calibration_error
from training.evaluate.metrics import SMALLEST_LESION_ML, TYPE_OF_LABEL, VOLUME_BINS_ML, lower_limit, upper_limit
from training.evaluate.score import Score

ALL = "all"  # the name of all styles together
LARGE_ML = 5.0
SEEN_ML = 1.0  # Dice of less is mostly 0 or chance
CLEAN_ML = 0.2  # a normal head with no more marked than this passes

Measured = Callable[[Score], Iterable[float] | Iterable[Values]]
Summary = dict[str, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure: which values a case gives to it (none: the case does not count), and what is made of all."""

    key: str
    values: Measured
    statistic: Statistic = np.mean
    worse: Callable[[float], float] = lambda value: -value  # the higher, the worse


def rising(value: float) -> float:
    """Larger values are worse."""
    return value


def _given(value: float | None) -> list[float]:
    return [] if value is None else [float(value)]


def _if_bleeding(value: Callable[[Score], float | None]) -> Measured:
    return lambda score: _given(value(score)) if score.bleeds else []


def _false_ml(score: Score) -> list[float]:
    return [] if score.bleeds else [score.all_types.predicted_ml]


def _found(low: float, high: float) -> Measured:
    """Whether a patient with this much hemorrhage is found."""
    return lambda score: [float(score.all_types.found)] if low <= score.all_types.truth_ml < high else []


def _lesions_found(low: float, high: float) -> Measured:
    return lambda score: [float(lesion.found) for lesion in score.lesions if low <= lesion.truth_ml < high]


def _lesions_of(type_name: str) -> Measured:
    return lambda score: [float(lesion.found) for lesion in score.lesions if lesion.type == type_name]


def _dice_of(type_name: str, at_least_ml: float = 0.0) -> Measured:
    """Dice of one type where the patient has it."""

    def values(score: Score) -> list[float]:
        part = score.by_type.get(type_name)
        return _given(part.dice) if part and part.truth_ml > 0 and part.truth_ml >= at_least_ml else []

    return values


def _error_percent(score: Score) -> float:
    return 100 * abs(score.all_types.error_ml) / score.all_types.truth_ml


def _p95(values: Values) -> float:
    return float(np.percentile(values, 95))


def _covered_if_marked(score: Score) -> bool | None:
    """Of whom a reader sees an interval: where nothing is marked there is none."""
    return score.covered if score.all_types.predicted_ml else None


def _error_ml(score: Score) -> float:
    return score.all_types.error_ml


def _shared_true_and_found_ml(score: Score) -> Values:
    of = score.all_types
    return np.array([of.overlap_ml, of.truth_ml, of.predicted_ml])


def _pooled_dice(shared_true_and_found_ml: Values) -> float:
    """As if all patients, normals included, were one head; NaN where none of them bleeds."""
    shared, true, found = shared_true_and_found_ml.sum(axis=0)
    return float(2 * shared / (true + found)) if true else float("nan")


def _lone_iph_dice(score: Score) -> float | None:
    large = score.only_type == "IPH" and score.all_types.truth_ml >= LARGE_ML
    return score.all_types.dice if large else None


# of all types together, in patients with hemorrhage or in those without (normals)
MEASURES = (
    Measure(key="dice", values=_if_bleeding(lambda s: s.all_types.dice)),
    Measure(key="dice_median", values=_if_bleeding(lambda s: s.all_types.dice), statistic=np.median),
    Measure(key="dice_1ml", values=lambda s: _given(s.all_types.dice) if s.all_types.truth_ml >= SEEN_ML else []),
    Measure(key="dice_pooled", values=lambda s: [_shared_true_and_found_ml(s)], statistic=_pooled_dice),
    Measure(key="dice_lone_iph_5ml", values=_if_bleeding(_lone_iph_dice)),  # also of who tells no types
    Measure(key="hd95_mm", values=_if_bleeding(lambda s: s.hd95_mm), statistic=np.median, worse=rising),
    Measure(key="hd95_undefined", values=_if_bleeding(lambda s: s.hd95_mm is None), statistic=share, worse=rising),
    Measure(key="volume_error_percent", values=_if_bleeding(_error_percent), statistic=np.median, worse=rising),
    Measure(key="bias_ml", values=_if_bleeding(_error_ml), worse=abs),
    Measure(key="lower_limit_ml", values=_if_bleeding(_error_ml), statistic=lower_limit),
    Measure(key="upper_limit_ml", values=_if_bleeding(_error_ml), statistic=upper_limit, worse=rising),
    Measure(key="sensitivity", values=_found(SMALLEST_LESION_ML, np.inf), statistic=share),
    Measure(key="normals_clean", values=lambda s: [float(ml <= CLEAN_ML) for ml in _false_ml(s)], statistic=share),
    Measure(key="normals_median_ml", values=_false_ml, statistic=np.median, worse=rising),
    Measure(key="normals_p95_ml", values=_false_ml, statistic=_p95, worse=rising),
    Measure(key="interval_coverage", values=_if_bleeding(lambda s: s.covered), statistic=share),
    Measure(key="interval_coverage_marked", values=_if_bleeding(_covered_if_marked), statistic=share),
    Measure(
        key="calibration_error",
        values=lambda s: [] if s.histogram is None else [s.histogram],
        statistic=expected_calibration_error,
        worse=rising,
    ),
    Measure(key="seconds", values=lambda s: [s.seconds], statistic=np.median, worse=rising),
)
DICE_BY_TYPE = (
    *(Measure(key=name, values=_dice_of(name)) for name in TYPES),
    Measure(key="IPH from 5 mL", values=_dice_of("IPH", LARGE_ML)),
)
LESIONS_BY_TYPE = tuple(Measure(key=name, values=_lesions_of(name), statistic=share) for name in TYPE_OF_LABEL.values())
_BINS = tuple((f"{low:g}-{high:g} mL".replace("-inf", "+"), low, high) for low, high in VOLUME_BINS_ML)
PATIENTS_BY_VOLUME = tuple(Measure(key=name, values=_found(low, high), statistic=share) for name, low, high in _BINS)
LESIONS_BY_VOLUME = tuple(
    Measure(key=name, values=_lesions_found(low, high), statistic=share) for name, low, high in _BINS
)


def summarize(scores: Sequence[Score], measures: Sequence[Measure]) -> Summary:
    """Each measure over the scores of one contender; what belongs to one patient stays together."""
    patients: dict[str, list[Score]] = {}
    for score in scores:
        patients.setdefault(score.patient, []).append(score)
    return {
        m.key: figure([np.array([v for s in own for v in m.values(s)]) for own in patients.values()], m.statistic)
        for m in measures
    }


def by_style(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """All scores, and those of each style where there are several."""
    styles = sorted({score.style for score in scores})
    parts = {style: [s for s in scores if s.style == style] for style in styles}
    return {ALL: list(scores)} | (parts if len(parts) > 1 else {})


def worst_style(summaries: dict[str, Summary], measure: Measure) -> tuple[str, Figure] | None:
    """The style where a measure is worst, and the figure there; None where no style has it."""
    known = {
        style: (measure.worse(found.value), found)
        for style, summary in summaries.items()
        if (found := summary[measure.key]).value is not None and (style != ALL or len(summaries) == 1)
    }
    if not known:
        return None
    style = max(known, key=lambda name: known[name][0])
    return style, known[style][1]


def dice_gain(scores: Sequence[Score], others: Sequence[Score]) -> Figure:
    """How much higher the Dice is than another contender's on the same cases: mean difference over patients."""
    other = {score.case: score.all_types.dice for score in others}
    pairs: dict[str, list[float]] = {}
    for score in scores:
        a, b = score.all_types.dice, other[score.case]
        if score.bleeds and a is not None and b is not None:
            pairs.setdefault(score.patient, []).append(a - b)
    return figure([np.array(gains) for gains in pairs.values()], np.mean)
