"""Each benchmark runs, tiny: no test looks at a time."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import all_models, end_to_end, idle, read_volume, receive, review, scale, simulate, write_results
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize(
    ("benchmark", "contestants"),
    [
        (lambda: receive.measure(slices=2, size=32, associations=(2,), rounds=1), 6),
        (lambda: idle.measure(seconds=0.2, rounds=1), 5),
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


def test_more_gpu_nodes_shorten_the_wait_of_a_day_until_the_ledger_is_the_limit() -> None:
    small = {"studies_a_day": 10_000, "analyse_s": 26.0}  # a tenth of the studies, ten times as long
    days = [scale.simulate(scale.Site(gpus=gpus, **small)) for gpus in (1, 4, 16)]
    assert days[0].delivered < days[1].delivered
    assert days[0].p99_s > days[1].p99_s > days[2].p99_s >= 26.0 * 0.8
    assert all(day.stat_p99_s <= day.p99_s for day in days)
    busy = scale.simulate(scale.Site(gpus=16, ledger_s=10.0, **small))
    assert busy.delivered < 0.9 * days[2].delivered


@pytest.mark.acceptance
def test_the_scale_benchmark_measures_the_ledger_and_simulates_each_site() -> None:
    rows = scale.measure(gpus=(1, 2), studies_a_day=200, seconds=0.2)
    assert [row.case for row in rows[-2:]] == ["1 GPU nodes, simulated", "2 GPU nodes, simulated"]
    assert all(row.value for row in rows)


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


@pytest.mark.acceptance
@pytest.mark.viewer
def test_the_review_benchmark_measures_first_and_next_picture() -> None:
    rows = review.measure(size=64, rounds=1)
    assert len({row.case for row in rows}) == 6
    assert all(row.value for row in rows if row.contestant == ICHNODE)
