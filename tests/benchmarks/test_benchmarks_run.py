"""Each benchmark runs, tiny: no test looks at a time."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import all_models, end_to_end, read_volume, receive, simulate, write_results
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize(
    ("benchmark", "contestants"),
    [
        (lambda: receive.measure(slices=2, size=32, associations=(2,), rounds=1), 5),
        (lambda: read_volume.measure(slices=(8,), size=32, rounds=1), 5),
        (lambda: write_results.measure(size=64, rounds=1), 2),
        (lambda: all_models.measure(size=64, rounds=1, shape=(32, 32, 32)), 2),
        (lambda: simulate.measure(shape=(16, 64, 64), patients=1, rounds=1), 2),
    ],
)
def test_a_benchmark_gives_a_row_for_each_contestant_in_each_case(
    benchmark: Callable[[], list[Row]], contestants: int
) -> None:
    rows = benchmark()
    assert len({row.contestant for row in rows}) == contestants
    assert all(row.value for row in rows if row.contestant == ICHNODE)
    assert all(row.value and row.ratio for row in rows if row.contestant != ICHNODE and row.value is not None)
    assert all(row.setting for row in rows)


@pytest.mark.acceptance
def test_the_end_to_end_benchmark_measures_one_study_and_several() -> None:
    rows = end_to_end.measure(size=128, runs=1, together=2)
    assert [row.case for row in rows] in (["one study, 1 times", "2 studies together"], ["one study"])


def test_a_peer_that_is_not_installed_is_left_out_and_the_others_go_on() -> None:
    def missing() -> float:
        pytest.skip("not here")

    measured = alternated({ICHNODE: lambda: 2.0, "absent": missing, "peer": lambda: 1.0}, rounds=3)
    assert measured == {ICHNODE: [2.0] * 3, "peer": [1.0] * 3}
    assert ratios(measured[ICHNODE], measured["peer"]) == 2.0
    assert ratios(measured[ICHNODE], ()) is None
