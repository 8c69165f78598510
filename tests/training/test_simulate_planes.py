"""Scanners show what is there; few slices are few; fine planes fill the same box."""

import pytest
import torch

from ichnode.imaging.resample import CanonicalGrid
from training.simulate import scanner
from training.simulate.draw import Draw
from training.simulate.planes import few, fine, slab
from training.simulate.scanner import Scanned

GRID = CanonicalGrid(shape=(32, 64, 56), spacing_mm=(5.0, 3.0, 3.0), origin_lps=(-82.5, -94.5, -77.5))


def test_few_slices_mostly_show_the_hemorrhage() -> None:
    labels = torch.zeros(32, 4, 4, dtype=torch.uint8)
    labels[20] = 1
    seen = Scanned(hu=torch.zeros(32, 4, 4), labels=labels)
    shown = [bool((few(seen, Draw(seed=seed)).labels > 0).any()) for seed in range(100)]
    assert 70 <= sum(shown) < 100


def test_few_slices_of_a_head_that_was_exported_as_gray_levels_are_still_some() -> None:
    seen = Scanned(hu=torch.full((32, 4, 4), 255.0), labels=torch.zeros(32, 4, 4, dtype=torch.uint8))
    assert len(few(seen, Draw(seed=1)).hu) >= 1


def test_a_slab_is_some_of_the_planes_of_a_head_from_anywhere() -> None:
    planes = torch.arange(32)[:, None, None]
    slabs = [slab(Scanned(hu=planes.float(), labels=planes.to(torch.uint8)), 24, Draw(seed=seed)) for seed in range(40)]
    firsts = {int(each.labels[0]) for each in slabs}
    assert firsts <= set(range(9))
    assert len(firsts) > 4
    for each in slabs:
        assert each.labels.flatten().tolist() == list(range(int(each.labels[0]), int(each.labels[0]) + 24))
        assert torch.equal(each.hu, each.labels.float())


def test_fine_planes_fill_the_same_box() -> None:
    finer = fine(GRID)
    top = finer.origin_lps[2] + (finer.shape[0] - 0.5) * finer.spacing_mm[0]
    assert finer.shape[0] * finer.spacing_mm[0] == GRID.shape[0] * GRID.spacing_mm[0]
    assert top == pytest.approx(GRID.origin_lps[2] + (GRID.shape[0] - 0.5) * GRID.spacing_mm[0])


def block_of_blood() -> tuple[torch.Tensor, torch.Tensor]:
    hu = torch.full((16, 40, 40), 35.0)
    occupancy = torch.zeros(5, 16, 40, 40)
    occupancy[0, 6:10, 10:30, 10:30] = 1
    return hu + 30 * occupancy[0], occupancy


@pytest.mark.parametrize("seed", range(12))
def test_what_the_scanner_shows_of_a_block_is_labelled_about_as_large_as_it_is(seed: int) -> None:
    seen = scanner.scan(*block_of_blood(), Draw(seed=seed), planes_each=2, pixel_mm=1.0)
    assert seen.hu.shape == (8, 40, 40)
    assert 400 <= int((seen.labels == 1).sum()) <= 1600  # 800 if slices fit; thick slices blur it


def test_half_of_a_voxel_is_enough_for_a_label_and_the_larger_type_names_it() -> None:
    occupancy = torch.tensor([[0.3, 0.2, 0.0], [0.4, 0.2, 0.0], [0.0] * 3, [0.0] * 3, [0.0] * 3])[:, None, None]
    assert scanner.as_labels(occupancy, torch.full((1, 1, 3), 60.0))[0, 0].tolist() == [2, 0, 0]


def test_what_shows_as_bright_as_bone_is_not_labelled_as_blood() -> None:
    occupancy = torch.zeros(5, 1, 1, 2)
    occupancy[3] = 1.0
    assert scanner.as_labels(occupancy, torch.tensor([[[150.0, 200.0]]]))[0, 0].tolist() == [4, 0]
