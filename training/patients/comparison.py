"""Comparison of trainings: what the first does better or worse than each other, over the same patients.

By it the rows of a paper's ablation are read: a difference whose interval holds zero is none that was shown.
"""

from collections.abc import Mapping, Sequence

from training.evaluate.bootstrap import Figure, difference
from training.patients.evaluation import Rows


def compared(rows: Rows, names: Sequence[str], more_is_better: Mapping[str, bool]) -> list[str]:
    """A sentence for each training but the first, of the measures that both have, by whether more of it is better."""
    first, *others = names
    return [
        f"{first} against {other}: "
        + ("; ".join(_said(rows[first], rows[other], more_is_better)) or "nothing in common")
        for other in others
    ]


def _said(first: Mapping[str, Figure], other: Mapping[str, Figure], more_is_better: Mapping[str, bool]) -> list[str]:
    found = {heading: difference(first[heading], other[heading]) for heading in more_is_better}
    return [
        f"{heading} {_verdict(by, more_is_better[heading])} ({by.text('+.2f')})" for heading, by in found.items() if by
    ]


def _verdict(by: Figure, more_is_better: bool) -> str:
    if by.low is None or by.high is None or by.low <= 0 <= by.high:
        return "not shown to differ"
    return "better" if (by.low > 0) == more_is_better else "worse"
