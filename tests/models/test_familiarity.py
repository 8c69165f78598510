"""A head far from those that are known is strange."""

import pytest
import torch

from models.familiarity import Familiarity


def test_strangeness_is_about_one_for_heads_like_those_known_and_grows_with_distance() -> None:
    torch.manual_seed(0)
    known = torch.randn(500, 8) * torch.arange(1.0, 9.0) + 3
    familiarity = Familiarity(8)
    familiarity.fit(known)
    assert float(familiarity(known).square().mean().sqrt()) == pytest.approx(1.0, abs=0.01)
    mean, deviation = known.mean(dim=0, keepdim=True), known.std(dim=0, keepdim=True)
    assert familiarity(torch.cat([mean, mean + 5 * deviation])).tolist() == pytest.approx([0.0, 5.0], abs=1e-4)


def test_a_feature_that_never_changes_divides_by_no_zero() -> None:
    familiarity = Familiarity(2)
    familiarity.fit(torch.ones(4, 2))
    assert bool(familiarity(torch.ones(1, 2)).isfinite().all())
