"""Patients are shown several times, among others, and kept only as long as they may come again."""

from collections import Counter

from training.fit.recent import Recent
from training.simulate.draw import Draw


def shown(recent: Recent[int], count: int, made: list[int]) -> list[int]:
    def make(patient: int) -> int:
        made.append(patient)
        return patient

    return [recent.of(number, Draw(seed=number), make) for number in range(count)]


def test_no_patient_fills_the_beginning() -> None:
    drawn = shown(Recent(4, 150), 400, [])
    assert max(Counter(drawn).values()) < 40
    assert min(drawn) == 0


def test_a_new_patient_comes_every_few_showings_and_nobody_else_who_is_older_than_those_kept() -> None:
    drawn = shown(Recent(4, 10), 400, [])
    assert drawn[::4] == list(range(100))
    assert all(number // 4 - patient <= 10 for number, patient in enumerate(drawn))


def test_each_is_made_about_once() -> None:
    made: list[int] = []
    shown(Recent(4, 50), 400, made)
    assert len(made) <= 1.1 * len(set(made))
