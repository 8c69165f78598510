"""Cases from a manifest: one row after the other, on the slices as acquired."""

from collections.abc import Iterator, Sequence

from ichnode.errors import RefusedSeries
from training.data.load import native
from training.data.manifest import DataError, Row
from training.evaluate.cases import EvaluationCase


def manifest_cases(rows: Sequence[Row], refused: dict[str, str]) -> Iterator[EvaluationCase]:
    """The style is the row's source. A row that cannot be read, or that the daemon would refuse, goes to `refused`."""
    for row in rows:
        name = f"{row.source}/{row.study}"
        try:
            volume, labels = native(row)
        except (DataError, RefusedSeries, OSError) as problem:
            refused[name] = str(problem)
            continue
        yield EvaluationCase(
            name=name,
            patient=row.patient,
            style=row.source,
            simulated=row.is_simulated,
            volume=volume,
            labels=labels,
        )
