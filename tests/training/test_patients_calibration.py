"""Probabilities that are right as often as they say, and no more sure than patients allow."""

import numpy as np
import pytest

from training.patients.calibration import calibration, within


def test_a_score_that_is_too_sure_is_toned_down() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
    fitted = calibration(3 * logits + 1, truth)
    assert fitted.scale == pytest.approx(1 / 3, rel=0.1)
    assert fitted.shift == pytest.approx(-1 / 3, abs=0.1)
    few = calibration(3 * logits[:100] + 1, truth[:100])
    assert few.spread > 3 * fitted.spread


def test_a_network_that_says_nearly_the_same_of_all_is_believed_as_far_as_it_was_measured() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(80) < 0.3).astype(float)
    logits = truth + rng.normal(0, 1, 80)
    loud, quiet = calibration(logits, truth), calibration(-1.2 + 0.01 * logits, truth)
    assert quiet.percent(-1.2 + 0.01)[0] == pytest.approx(loud.percent(1.0)[0], rel=0.01)
    assert quiet.percent(-1.0) == quiet.percent(-1.2 + 0.01 * logits.max())  # who is unlike all is no surer case
    assert quiet.percent(-1.4) == quiet.percent(-1.2 + 0.01 * logits.min())


def test_a_network_that_does_not_tell_patients_apart_has_no_calibration() -> None:
    with pytest.raises(ValueError, match="does not tell patients apart"):
        calibration(np.array([3.0, 2.0, -1.0, -2.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="the same is true"):
        calibration(np.array([3.0, 2.0]), np.array([1.0, 1.0]))


def test_patients_of_whom_nothing_is_known_do_not_count() -> None:
    logits, truth = np.array([-1.0, 1.0, 2.0, -2.0, 9.0]), np.array([0, 1, 0, 0, np.nan])
    assert calibration(logits, truth) == calibration(logits[:4], truth[:4])


def test_nine_of_ten_errors_lie_within() -> None:
    assert within(np.linspace(-1, 1, 101)) == pytest.approx((-0.9, 0.9))
