"""How well the labels can be predicted at best."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.simulate.bayes import accuracy, auc, bayes_limits, table


def test_the_expected_auc_is_that_of_many_drawn_labels():
    random = np.random.default_rng(0)
    probability = random.beta(1, 3, 100_000).round(2)
    drawn = random.random(100_000) < probability
    assert auc(probability, probability) == pytest.approx(roc_auc_score(drawn, probability), abs=0.006)


def test_labels_that_are_certain_are_predicted_without_error():
    certain = np.array([0.0, 1.0, 1.0, 0.0])
    assert (accuracy(certain, certain), auc(certain, certain)) == (1.0, 1.0)


def test_a_score_that_says_nothing_has_an_auc_of_one_half():
    assert auc(np.ones(5), np.array([0.1, 0.5, 0.9, 0.2, 0.4])) == pytest.approx(0.5)


def test_nobody_beats_the_one_who_knows_everything_and_he_beats_the_majority():
    limits = {limit.label: limit for limit in bayes_limits(1500, 0)}
    for label in ("expansion", "30-day death", "90-day mRS 4-6", "GCS 8 or less", "late hemorrhage"):
        limit = limits[label]
        assert limit.picture_auc <= limit.auc < 1
        assert limit.picture_accuracy <= limit.accuracy
        assert limit.accuracy >= limit.majority
        assert label in table(list(limits.values()))
    assert limits["age 80 and over"].auc is None
