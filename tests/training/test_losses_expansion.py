"""Each part of the expansion losses has its price, and a perfect prediction next to none."""

import pytest
import torch
from torch import Tensor

from models.expansion import DenseFollowup, Followup
from training.losses.expansion import dense_loss, published_loss, smoothness

STILL = torch.zeros(1, 3, 8, 8, 8)


def ball(radius: float) -> Tensor:
    axis = torch.arange(8) - 3.5
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return (z**2 + y**2 + x**2 < radius**2).float()[None, None]


def said(hematoma: Tensor, ct: float = 0.5, field: Tensor = STILL) -> Followup:
    return Followup(ct_bcdhw=torch.full((1, 1, 8, 8, 8), ct), hematoma_bcdhw=hematoma, field_bcdhw=field)


def said_dense(hematoma: Tensor, displacement: Tensor = STILL) -> DenseFollowup:
    return DenseFollowup(
        *said(hematoma),
        displacement_bcdhw=displacement,
        new_bcdhw=hematoma,
        expands_bk=torch.zeros(1, 2),
        features_bf=torch.zeros(1, 1),
    )


CT = torch.full((1, 1, 8, 8, 8), 0.5)


def test_what_comes_true_costs_nothing() -> None:
    assert float(published_loss(said(ball(3)), CT, ball(3))) == pytest.approx(0, abs=1e-4)
    assert float(dense_loss(said_dense(ball(3)), CT, ball(3), ball(2))) == pytest.approx(0, abs=1e-4)


def test_the_published_weights_are_one_each() -> None:
    ramp = STILL.clone()
    ramp[:, 0] = torch.arange(8)[:, None, None] * 3.0  # 9 in one of three channels, along one of three axes
    assert float(smoothness(ramp)) == pytest.approx(1.0)
    assert float(published_loss(said(ball(3), ct=0.7, field=ramp), CT, ball(3))) == pytest.approx(1.2, abs=1e-4)


def test_growth_that_was_not_predicted_costs_more_than_its_share_of_the_hematoma() -> None:
    copied = published_loss(said(ball(2)), CT, ball(3))
    assert float(dense_loss(said_dense(ball(2)), CT, ball(3), ball(2))) > float(copied) + 0.9


def test_without_growth_there_is_no_term_of_it() -> None:
    assert float(dense_loss(said_dense(ball(3)), CT, ball(2), ball(2))) == pytest.approx(
        float(published_loss(said(ball(3)), CT, ball(2)))
    )


def test_folds_cost() -> None:
    folded = STILL.clone()
    folded[:, 2] = -2.0 * torch.arange(8)  # x is turned around: the determinant is -1
    loss = dense_loss(said_dense(ball(3), folded), CT, ball(3), ball(2))
    assert float(loss) == pytest.approx(0.1, abs=1e-4)
