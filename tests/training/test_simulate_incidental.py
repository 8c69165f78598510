"""What looks like hemorrhage and is none can be told from it by a reader."""

import torch

from tests.training.hemorrhage_factory import ellipsoid_head
from training.simulate.draw import Draw
from training.simulate.incidental import _mass, paint_incidental
from training.simulate.scene import Scene


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


def test_a_tumour_is_hardly_denser_than_the_white_matter_of_its_head() -> None:
    head = ellipsoid_head((5.0, 2.0, 2.0))
    covered = torch.zeros_like(head.depth_mm)
    lesions = 0
    for white_hu in (25.0, 35.0):
        tissue = head.grey * (white_hu + 7) + (1 - head.grey) * white_hu
        for seed in (seed for seed in range(600) if Draw(seed=seed).chance("mass", 0.05)):
            changed = _mass(Scene(space=head, draw=Draw(seed=seed), hu=tissue, covered=covered)) - tissue
            lesions += bool((changed < -2).any())
            assert changed[head.white > 0.9].max() < 9  # 3, and the texture
    assert lesions >= 8
