"""What an operation leaves looks like no hemorrhage: there is no truth for it."""

import torch

from tests.training.hemorrhage_factory import ellipsoid_head
from training.simulate.draw import Draw
from training.simulate.scene import Scene
from training.simulate.surgery import opened_skull


def test_a_missing_bone_flap_is_filled_by_scar_and_dura_that_are_less_dense_than_blood_to_the_brain() -> None:
    head = ellipsoid_head()
    bone = torch.sigmoid(-head.depth_mm / 0.5) * (head.depth_mm > -8)  # its edge fills voxels in part
    hu = 35 + 865 * bone
    opened = 0
    for seed in range(12):
        scene = Scene(space=head, draw=Draw(seed=seed), hu=hu, covered=torch.zeros_like(hu))
        after = opened_skull(scene)
        filled = after[(after != hu) & (head.depth_mm > -4) & (head.depth_mm < 1.5)]
        opened += len(filled) > 0
        assert (filled < 55).all()
    assert opened >= 3
