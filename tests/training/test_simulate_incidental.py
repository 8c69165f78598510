"""What looks like hemorrhage and is none can be told from it by a reader."""

import torch

from tests.training.hemorrhage_factory import ellipsoid_head
from training.simulate.draw import Draw
from training.simulate.incidental import paint_incidental


def test_calcified_nuclei_are_on_both_sides() -> None:
    head = ellipsoid_head((2.5, 1.0, 1.0))
    tissue, covered = torch.full_like(head.depth_mm, 35.0), torch.zeros_like(head.depth_mm)
    calcified = 0
    for seed in (seed for seed in range(60) if Draw(seed=seed).chance("pallidum", 0.12)):
        after = paint_incidental(tissue, covered, head, Draw(seed=seed), 50.0, operated=False)
        height = (head.mni_mm[1] + 4).square() + head.mni_mm[2].square()
        peaks = [after[(height < 25) & ((head.mni_mm[0] - side * 18).abs() < 5)].max() - 35 for side in (1, -1)]
        calcified += 1
        assert min(peaks) > 15
    assert calcified >= 4
