"""In training heads are shown wider than simulated: off scale, between slices, bright beside bone, sulci shut."""

from dataclasses import replace

import torch

from tests.training.hemorrhage_factory import ellipsoid_head
from training.data.manifest import TYPES
from training.segmentation.wider import cupped, effaced, off_scale, resliced
from training.simulate.cohort import patient_spec
from training.simulate.draw import Draw
from training.simulate.patient import SimulatedHead
from training.simulate.scanner import Scanned

SPACING_MM = (5.0, 2.0, 2.0)
PLAIN = Scanned(hu=torch.full((4, 8, 8), 40.0), labels=torch.ones(4, 8, 8, dtype=torch.uint8))


def test_half_of_the_heads_are_off_by_more_hu_than_scanners_are_and_keep_their_labels() -> None:
    seen = [off_scale(PLAIN, Draw(seed=seed)) for seed in range(200)]
    off_hu = [float(each.hu.max()) - 40.0 for each in seen]
    assert 80 <= sum(off != 0 for off in off_hu) <= 120
    assert max(off_hu) > 8 > -8 > min(off_hu)
    assert all(torch.equal(each.labels, PLAIN.labels) for each in seen)


def test_half_of_the_heads_are_read_between_slices_and_blood_is_what_fills_half_of_a_voxel() -> None:
    thin = Scanned(hu=torch.zeros(24, 8, 8), labels=torch.zeros(24, 8, 8, dtype=torch.uint8))
    thin.hu[:12], thin.labels[:12, :, :4] = 60.0, 4
    seen = [resliced(thin, Draw(seed=seed)) for seed in range(100)]
    changed = [each for each in seen if not torch.equal(each.hu, thin.hu)]
    assert 35 <= len(changed) <= 65
    for each in changed:
        along_z = each.hu[:, 0, 0]
        assert torch.allclose(along_z[:9], thin.hu[:9, 0, 0])
        assert torch.allclose(along_z[15:], thin.hu[15:, 0, 0])
        assert bool((along_z.diff() <= 1e-3).all())
        assert torch.equal(each.labels[:, 0, 0] == 4, along_z >= 30)
        assert not each.labels[:, :, 4:].any()


def test_a_third_of_the_heads_are_brighter_beside_bone_and_nowhere_else() -> None:
    ring = Scanned(hu=torch.full((4, 80, 80), 30.0), labels=torch.zeros(4, 80, 80, dtype=torch.uint8))
    ring.hu[:, :, :4] = 1200.0
    seen = [cupped(ring, SPACING_MM, Draw(seed=seed)) for seed in range(100)]
    changed = [each.hu for each in seen if not torch.equal(each.hu, ring.hu)]
    assert 20 <= len(changed) <= 50
    assert all(bool((hu[:, :, :4] == 1200).all()) and bool((hu[:, :, 40:] == 30).all()) for hu in changed)
    assert max(float(hu[:, :, 5].max()) for hu in changed) > 45


def test_sulci_under_subdural_blood_are_pressed_shut_in_half_of_the_heads_and_far_from_it_stay() -> None:
    space = ellipsoid_head((5.0, 4.0, 4.0))
    sheet = ((space.depth_mm > 0) & (space.depth_mm < 2) & (space.mni_mm[0] > 55)).float()
    occupancy = torch.stack([sheet * (kind == "SDH") for kind in TYPES])
    spec = patient_spec(1, "sdh")
    bled = SimulatedHead(spec=spec, grid=space.grid, hu=torch.zeros_like(sheet), occupancy=occupancy, space=space)
    added = [effaced(bled, Draw(seed=seed)).hu for seed in range(60)]
    changed = [hu for hu in added if bool(hu.any())]
    assert 18 <= len(changed) <= 42
    for hu in changed:
        assert float(hu.min()) == 0
        assert not hu[(sheet == 1) | (space.csf == 0) | (space.mni_mm[0] < 40)].any()
    spared = replace(bled, occupancy=torch.zeros_like(occupancy))
    assert all(effaced(spared, Draw(seed=seed)) is spared for seed in range(5))
