"""Blood pushes tissue aside: away from it, not into bone, and so that no two places meet."""

import pytest
import torch
from torch import Tensor

from tests.training.hemorrhage_factory import Bleeding, ellipsoid_head, lesion
from training.simulate.mass_effect import displacement
from training.simulate.space import Space


@pytest.fixture(scope="module")
def head() -> Space:
    return ellipsoid_head()


def pushed(head: Space, *, side: int = 1, volume_ml: float = 60.0, strength: float = 0.8, type_: str = "IPH") -> Tensor:
    site = "putamen" if type_ == "IPH" else "convexity"
    share = Bleeding((lesion(type_, site, side=side, volume_ml=volume_ml),)).painted(head).share
    return displacement(share, head, strength)


def midline_shift(head: Space, moved: Tensor) -> float:
    """To the patient's right, mm."""
    x, y, z = head.mni_mm.unbind()
    return float(moved[0][(x.abs() < 3) & (y.abs() < 20) & ((z - 10).abs() < 10)].mean())


@pytest.mark.parametrize("type_", ["IPH", "SDH"])
@pytest.mark.parametrize("side", [-1, 1])
def test_the_midline_shifts_to_the_other_side(head: Space, type_: str, side: int) -> None:
    assert 1.5 < side * midline_shift(head, pushed(head, type_=type_, side=side)) < 10


def test_more_blood_shifts_more(head: Space) -> None:
    shifts = [midline_shift(head, pushed(head, volume_ml=volume)) for volume in (5.0, 20.0, 80.0)]
    assert shifts == sorted(shifts)


def test_without_blood_nothing_moves(head: Space) -> None:
    assert not displacement(torch.zeros_like(head.depth_mm), head, 0.8).any()


def test_bone_does_not_move(head: Space) -> None:
    moved = pushed(head, type_="SDH")
    assert moved[:, head.depth_mm < -10].abs().max() < 0.01


def test_no_two_places_meet(head: Space) -> None:
    moved = pushed(head, volume_ml=100.0, strength=1.0)
    z, y, x = head.grid.spacing_mm
    gradient = torch.stack(torch.gradient(moved, spacing=(z, -y, -x), dim=(1, 2, 3)))[[2, 1, 0]]
    jacobian = torch.eye(3) - gradient.permute(2, 3, 4, 1, 0)
    assert jacobian[head.depth_mm > 6].det().min() > 0.1


def test_ventricles_give_way_first(head: Space) -> None:
    moved = pushed(head)
    z, y, x = head.grid.spacing_mm
    growth = sum(
        torch.gradient(moved[n], spacing=d, dim=axis)[0] for n, (axis, d) in enumerate(((2, -x), (1, -y), (0, z)))
    )
    assert isinstance(growth, Tensor)
    left = head.mni_mm[0] < 0
    assert growth[(head.ventricle > 0.9) & left].mean() < -0.1
    assert growth[(head.ventricle > 0.9) & left].mean() < growth[(head.white > 0.9) & ~left].mean() - 0.05
