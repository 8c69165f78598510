"""Synthetic baselines lie between what was and what became, and leave the rest of the head alone."""

import numpy as np
import pytest

from training.data.synthetic_baseline import Pair, synthetic_baseline

SPACING_MM = (1.0, 1.0, 1.0)


def ball(radius_mm: float, centre_x: float = 70.0):
    z, y, x = np.ogrid[:48, :100, :100]
    return (z - 24.0) ** 2 + (y - 50.0) ** 2 + (x - centre_x) ** 2 < radius_mm**2


def pair_of(first, later) -> Pair:
    hu = np.random.default_rng(0).normal(32, 3, (48, 100, 100)).astype(np.float32)
    bloody = [np.where(mask, 65, hu).astype(np.float32) for mask in (first, later)]
    return Pair(hu=bloody[0], hematoma=first, later_hu=bloody[1], later_hematoma=later, spacing_mm=SPACING_MM)


PAIR = pair_of(ball(14), ball(20))


@pytest.mark.parametrize(("step", "radius_mm"), [(0.0, 14.0), (0.5, 17.0), (-0.3, 12.2)])
def test_the_margin_moves_as_far_as_the_step(step: float, radius_mm: float) -> None:
    _, hematoma = synthetic_baseline(PAIR, step, np.random.default_rng(1))
    expected = ball(radius_mm)
    assert 2 * (hematoma & expected).sum() / (hematoma.sum() + expected.sum()) > 0.95


def test_blood_that_is_gone_becomes_brain_and_blood_that_is_new_is_blood() -> None:
    smaller_hu, smaller = synthetic_baseline(PAIR, -0.3, np.random.default_rng(1))
    larger_hu, larger = synthetic_baseline(PAIR, 0.6, np.random.default_rng(1))
    assert abs(float(smaller_hu[PAIR.hematoma & ~smaller].mean()) - 32) < 2
    assert abs(float(smaller_hu[smaller].mean()) - 65) < 4  # its rim is soft
    assert abs(float(larger_hu[larger].mean()) - 65) < 1


def test_far_from_the_hematoma_nothing_changes() -> None:
    hu, _ = synthetic_baseline(PAIR, 0.5, np.random.default_rng(1))
    far = ~ball(30)
    assert np.array_equal(hu[far], PAIR.hu[far])


def test_what_bleeds_on_both_sides_is_not_mirrored_into_itself() -> None:
    both = pair_of(ball(14) | ball(14, 29.0), ball(20) | ball(20, 29.0))
    hu, hematoma = synthetic_baseline(both, -0.3, np.random.default_rng(1))
    assert float(hu[both.hematoma & ~hematoma].max()) < 55


def test_too_small_and_absent_hematomas_make_none() -> None:
    assert synthetic_baseline(pair_of(ball(5), ball(6)), -0.3, np.random.default_rng(1)) is None
    assert synthetic_baseline(pair_of(ball(0), ball(14)), 0.5, np.random.default_rng(1)) is None
