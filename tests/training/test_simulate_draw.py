"""A patient's choices are the same everywhere, and no choice disturbs another."""

from statistics import fmean, pstdev

import pytest
import torch

from ichnode.imaging.resample import CanonicalGrid
from training.simulate.draw import Draw

COARSE = CanonicalGrid(shape=(8, 48, 40), spacing_mm=(10.0, 4.0, 4.0), origin_lps=(-78.0, -94.0, -35.0))
FINE = CanonicalGrid(shape=(16, 96, 80), spacing_mm=(5.0, 2.0, 2.0), origin_lps=(-79.0, -95.0, -37.5))


def test_a_choice_depends_on_the_patient_and_its_name_alone() -> None:
    draw = Draw(seed=7)
    first = draw.normal("age")
    draw.uniform("another")
    assert draw.normal("age") == first
    assert draw.normal("weight") != first
    assert Draw(seed=8).normal("age") != first


def test_choices_keep_to_their_range() -> None:
    values = [Draw(seed=seed).log_uniform("dose", 2.0, 50.0) for seed in range(300)]
    assert min(values) >= 2.0
    assert max(values) <= 50.0
    assert fmean(v < 10.0 for v in values) == pytest.approx(0.5, abs=0.1)  # 10 is the middle in the logarithm


def test_a_choice_by_weight_comes_as_often_as_its_weight_says() -> None:
    picks = [Draw(seed=seed).choice("kind", ("common", "rare"), (0.9, 0.1)) for seed in range(500)]
    assert fmean(p == "rare" for p in picks) == pytest.approx(0.1, abs=0.04)


def test_normal_numbers_have_the_mean_and_deviation_asked_for() -> None:
    values = [Draw(seed=seed).normal("hu", 37.0, 2.5) for seed in range(500)]
    assert fmean(values) == pytest.approx(37.0, abs=0.4)
    assert pstdev(values) == pytest.approx(2.5, abs=0.3)


@pytest.mark.parametrize("scale_mm", [20.0, 55.0])
def test_a_field_is_the_same_in_the_same_place_of_another_grid(scale_mm: float) -> None:
    fine, coarse = (Draw(seed=3).field("shape", grid, scale_mm)[0] for grid in (FINE, COARSE))
    means = torch.nn.functional.avg_pool3d(fine[None], 2)[0]
    assert float((means - coarse).abs().max()) < 0.15
    assert float(coarse.std()) > 0.3


def test_a_field_is_smooth_at_its_scale() -> None:
    field = Draw(seed=3).field("shape", FINE, 40.0)[0]
    assert float(field.diff(dim=2).abs().max()) < 0.25  # of about one deviation, over 2 mm


def test_a_field_goes_on_where_no_head_reaches() -> None:
    away = CanonicalGrid(shape=(4, 8, 8), spacing_mm=(10.0, 20.0, 20.0), origin_lps=(300.0, 0.0, 0.0))
    assert bool(Draw(seed=7).field("shape", away, 20.0).isfinite().all())
