"""Styles that training never sees: pictures, another anatomy, the real head as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ichnode.imaging.resample import CanonicalGrid
from training.data.manifest import TYPES
from training.evaluate.held_out import SIMULATED, VARIANTS, cases, straight
from training.simulate.cohort import patient_spec
from training.simulate.draw import Draw
from training.simulate.picture import NOMINAL, WINDOWS, scan, turned
from training.simulate.scanner import Scanned

PLANES, ROWS, COLUMNS = 8, 100, 90


@pytest.fixture(scope="module")
def head() -> torch.Tensor:
    """A ball of brain in a skull, (D, H, W)."""
    y, x = torch.meshgrid(torch.arange(ROWS) - 50.0, torch.arange(COLUMNS) - 45.0, indexing="ij")
    radius = (x**2 + y**2).sqrt().expand(PLANES, -1, -1)
    return torch.where(radius < 36, 35.0, torch.where(radius < 41, 1000.0, -1000.0))


def shown(head: torch.Tensor, seed: int) -> Scanned:
    blood = torch.zeros(len(TYPES), *head.shape)
    blood[0, 2:6, 40:60, 40:50] = 1
    return scan(head, blood, Draw(seed=seed), planes_each=2, pixel_mm=1.0)


@pytest.mark.parametrize("seed", range(6))
def test_a_picture_has_no_more_than_256_grays_of_a_window(head, seed):
    picture = shown(head, seed)
    windows = {(centre - width / 2, width) for centre, width in WINDOWS} | {NOMINAL}
    low, high = float(picture.hu.min()), float(picture.hu.max())
    assert len(picture.hu.unique()) <= 256
    assert any(start <= low and high <= start + width for start, width in windows)


def test_several_planes_become_one_slice(head):
    picture = shown(head, 0)
    assert picture.hu.shape == picture.labels.shape == (PLANES // 2, ROWS, COLUMNS)
    assert (picture.labels[1:3, 40:60, 40:50] == 1).all()
    assert int((picture.labels > 0).sum()) == 2 * 20 * 10


def test_the_same_seed_gives_the_same_picture(head):
    assert torch.equal(shown(head, 4).hu, shown(head, 4).hu)
    assert not torch.equal(shown(head, 4).hu, shown(head, 5).hu)


def test_a_mirrored_picture_takes_its_labels_along(head):
    picture = shown(head, 0)
    marked = Scanned(hu=picture.labels.float(), labels=picture.labels)
    for seed in range(8):
        seen = turned(marked, Draw(seed=seed))
        assert torch.equal(seen.hu, seen.labels.float())


def test_canonical_planes_become_axial_slices_of_their_size():
    grid = CanonicalGrid(shape=(4, 5, 6), spacing_mm=(5.0, 0.5, 0.5), origin_lps=(1.0, 2.0, 3.0))
    volume = straight(np.zeros((3, 5, 6), np.float32), grid)
    assert volume.grid.shape == (3, 5, 6)
    assert volume.grid.voxel_ml == pytest.approx(np.full(3, 5 * 0.25 / 1000))
    assert volume.grid.positions_lps[2] == pytest.approx((1.0, 2.0, 13.0))


def test_no_style_but_the_first_is_the_style_of_training():
    training, *others = SIMULATED.values()
    assert all(replace(style, name=training.name) != training for style in others)


def test_the_template_gives_heads_whose_labels_are_those_of_the_patient(test_data):
    case = next(iter(cases("template anatomy", 1, seed=2)))
    spec = patient_spec(int(case.name.rsplit("/")[-1]))
    wanted = {TYPES.index(lesion.type) + 1 for lesion in spec.lesions if lesion.volume_ml > 1}
    assert wanted <= set(np.unique(case.labels)) - {0} <= {TYPES.index(one.type) + 1 for one in spec.lesions}
    assert case.volume.hu.shape == case.labels.shape == case.volume.grid.shape


def test_the_real_head_comes_in_every_variant_and_never_with_blood(test_data):
    found = list(cases("GE normal", 99, seed=0))
    assert [case.name.rsplit("/")[-1] for case in found] == list(VARIANTS)
    assert not any(case.labels.any() for case in found)
    native, straightened, noise_3, noise_6, mirrored = (case.volume for case in found)
    assert np.array_equal(mirrored.hu[:, :, ::-1], native.hu)
    brain = (native.hu > 20) & (native.hu < 50)
    assert np.std((noise_3.hu - native.hu)[brain]) == pytest.approx(3, rel=0.1)
    assert np.std((noise_6.hu - native.hu)[brain]) == pytest.approx(6, rel=0.1)
    assert np.diff(straightened.grid.offsets_mm) == pytest.approx(5.0)


def test_grafts_are_patients_with_blood_worth_finding(test_data):
    case = next(iter(cases("GE grafts", 1, seed=0)))
    assert case.volume.grid.volume_ml(case.labels == 1) > 4


def test_normals_have_no_blood():
    case = next(iter(cases("simulated normals", 1, seed=1)))
    assert case.name.split("/")[:2] == ["simulated normals", "normal"]
    assert not case.labels.any()
