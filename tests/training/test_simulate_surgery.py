"""What an operation leaves looks like no hemorrhage: there is no truth for it."""

import torch

from tests.training.hemorrhage_factory import ellipsoid_head
from training.simulate.draw import Draw
from training.simulate.scene import Scene
from training.simulate.surgery import opened_skull


def test_a_missing_bone_flap_is_filled_by_scar_and_dura_that_are_less_dense_than_blood() -> None:
    head = ellipsoid_head()
    bone = (head.depth_mm < 0) & (head.depth_mm > -8)
    hu = torch.where(bone, 150.0, 35.0)
    opened = 0
    for seed in range(12):
        scene = Scene(space=head, draw=Draw(seed=seed), hu=hu, covered=torch.zeros_like(hu))
        after = opened_skull(scene)
        filled = after[(after < 100) & bone & (head.depth_mm < -1.2)]
        opened += len(filled) > 0
        assert (filled < 52).all()
    assert opened >= 3
