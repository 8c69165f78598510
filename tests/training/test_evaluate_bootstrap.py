import numpy as np
import pytest

from training.evaluate.bootstrap import Figure, figure, share


@pytest.fixture(autouse=True)
def few_resamples() -> None:
    """As many as ever: here they are what is tested."""


def each(*values: float) -> list[np.ndarray]:
    """One value for each patient."""
    return [np.array([value]) for value in values]


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    found = figure(each(*values), np.mean)
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - 1.96 * 0.1, abs=0.03)
    assert found.high == pytest.approx(values.mean() + 1.96 * 0.1, abs=0.03)


def test_the_same_values_give_the_same_interval() -> None:
    values = each(*range(20))
    assert figure(values, np.median) == figure(values, np.median)


def test_many_values_of_one_patient_do_not_narrow_the_interval() -> None:
    few, many = each(0, 1, 2, 3, 4), [np.full(50, v) for v in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert figure(many, np.mean) == figure(few, np.mean)


def test_patients_without_a_value_do_not_count() -> None:
    assert figure([*each(1, 2), np.array([])], np.mean).patients == 2


def test_nothing_measured_is_no_figure_and_one_patient_has_no_interval() -> None:
    assert figure([], np.mean) == Figure(value=None, low=None, high=None, patients=0)
    assert figure(each(3), np.mean) == Figure(value=3, low=None, high=None, patients=1)


def test_a_statistic_that_is_not_defined_is_no_figure() -> None:
    assert figure(each(1, 2), lambda values: float("nan")).value is None


def test_all_of_thirty_found_does_not_promise_all() -> None:
    all_found, none_found = figure(each(*[1] * 30), share), figure(each(*[0] * 30), share)
    assert all_found.low == pytest.approx(0.8843, abs=1e-4)  # Clopper-Pearson, 30 of 30
    assert all_found.high == 1
    assert none_found.low == 0
    assert none_found.high == pytest.approx(0.1157, abs=1e-4)


@pytest.mark.parametrize(
    ("shown", "form", "text"),
    [
        (Figure(value=0.834, low=0.79, high=0.871, patients=9), ".2f", "0.83 [0.79-0.87]"),
        (Figure(value=0.5, low=-1.0, high=2.0, patients=9), "+.1f", "+0.5 [-1.0 to 2.0]"),
        (Figure(value=0.5, low=None, high=None, patients=1), ".0%", "50%"),
        (Figure(value=None, low=None, high=None, patients=0), ".2f", "-"),
    ],
)
def test_a_figure_is_written_with_its_interval(shown: Figure, form: str, text: str) -> None:
    assert shown.text(form) == text
