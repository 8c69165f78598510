"""Spans: how long something is, as people read it."""

_UNITS = (("days", 86_400), ("h", 3_600), ("min", 60))


def span(seconds: float) -> str:
    """In the largest unit of which there are two.

    >>> span(5), span(119), span(120), span(200_000)
    ('5 s', '119 s', '2 min', '2 days')
    """
    return next((f"{seconds / size:.0f} {unit}" for unit, size in _UNITS if seconds >= 2 * size), f"{seconds:.0f} s")
