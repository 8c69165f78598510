"""A simulated head shows what its patient has, the same on every grid; what only looks like blood is not labelled."""

from dataclasses import replace

import pytest
import torch

from ichnode.imaging.resample import CanonicalGrid
from tests.training.atlas_factory import ellipsoid_atlas
from training.data.manifest import TYPES
from training.simulate.atlas import Atlas
from training.simulate.cohort import patient_spec
from training.simulate.patient import SimulatedHead, simulate_head
from training.simulate.spec import Lesion, PatientSpec
from training.simulate.styles import TRAINING

GRID = CanonicalGrid(shape=(32, 64, 56), spacing_mm=(5.0, 3.0, 3.0), origin_lps=(-82.5, -94.5, -77.5))
CALM = replace(TRAINING, operated=0.0)


def putaminal(volume_ml: float, followup_ml: float | None = None) -> Lesion:
    return Lesion(
        type="IPH",
        site="putamen",
        side=1,
        volume_ml=volume_ml,
        followup_ml=followup_ml or volume_ml,
        age_h=3.0,
        irregularity=0.3,
    )


def patient(*lesions: Lesion, seed: int = 5, staining_ml: float = 0.0) -> PatientSpec:
    return replace(
        patient_spec(seed, "iph"), lesions=lesions, staining_ml=staining_ml, staining_side=1, hematocrit=0.42
    )


def head_of(spec: PatientSpec, *, grid: CanonicalGrid = GRID, followup: bool = False) -> SimulatedHead:
    return simulate_head(spec, grid, ellipsoid_atlas(), CALM, followup=followup)


@pytest.mark.parametrize("type_", ["SDH", "EDH"])
def test_blood_under_the_skull_is_beside_bone_and_not_in_it(type_: str) -> None:
    spec = patient(Lesion(type=type_, site="convexity", side=1, volume_ml=15.0, followup_ml=15.0, age_h=3.0))
    fine = CanonicalGrid(shape=(64, 128, 112), spacing_mm=(2.5, 1.5, 1.5), origin_lps=(-83.25, -95.25, -78.75))
    head = head_of(spec, grid=fine)
    blood = head.occupancy.sum(0)
    assert float((blood * (head.hu < 150)).sum()) > 0.95 * float(blood.sum())


def ml(head: SimulatedHead, type_: str) -> float:
    return float(head.occupancy[TYPES.index(type_)].sum()) * head.space.voxel_ml


def test_the_same_seed_is_the_same_head() -> None:
    assert torch.equal(head_of(patient_spec(11)).hu, head_of(patient_spec(11)).hu)
    assert not torch.equal(head_of(patient_spec(11)).hu, head_of(patient_spec(12)).hu)


def test_a_hematoma_has_the_volume_that_the_patient_has() -> None:
    assert ml(head_of(patient(putaminal(25.0))), "IPH") == pytest.approx(25.0, rel=0.02)


def test_the_follow_up_shows_the_later_volume_around_the_first() -> None:
    spec = patient(putaminal(12.0, 30.0))
    first, later = head_of(spec), head_of(spec, followup=True)
    assert ml(later, "IPH") == pytest.approx(30.0, rel=0.02)
    assert float(((first.occupancy[0] > 0.5) & (later.occupancy[0] < 0.5)).sum()) == 0


def test_blood_is_brighter_than_the_brain_around_it() -> None:
    head = head_of(patient(putaminal(25.0)))
    brain = (head.space.white > 0.9) & (head.occupancy.sum(0) == 0)
    assert float(head.hu[head.occupancy[0] > 0.99].median()) > float(head.hu[brain].median()) + 15


def test_contrast_after_thrombectomy_is_bright_but_no_hemorrhage() -> None:
    plain, stained = head_of(patient()), head_of(patient(staining_ml=15.0))
    assert float((stained.hu - plain.hu).max()) > 10
    assert float(stained.occupancy.sum()) == 0


def test_a_patient_without_hemorrhage_has_no_label() -> None:
    assert float(head_of(patient_spec(3, "normal")).occupancy.sum()) == 0


def test_a_finer_grid_shows_the_same_head() -> None:
    fine = replace(GRID, shape=(32, 128, 112), spacing_mm=(5.0, 1.5, 1.5), origin_lps=(-83.25, -95.25, -77.5))
    spec = patient(putaminal(25.0))
    coarse, finer = head_of(spec), head_of(spec, grid=fine)
    means = torch.nn.functional.avg_pool3d(finer.hu[None], (1, 2, 2))[0]
    inside = coarse.space.depth_mm > 6
    assert float((means - coarse.hu)[inside].abs().median()) < 2
    overlap = torch.nn.functional.avg_pool3d(finer.occupancy[:1], (1, 2, 2))[0] * coarse.occupancy[0]
    assert float(overlap.sum()) * coarse.space.voxel_ml > 22


def test_mass_effect_moves_brain_and_leaves_bone() -> None:
    calm, pushed = head_of(patient()), head_of(patient(putaminal(60.0)))
    bone = calm.space.depth_mm < -3
    assert torch.equal(calm.hu[bone], pushed.hu[bone])
    moved = (pushed.space.mni_mm - calm.space.mni_mm).square().sum(0).sqrt()
    assert float(moved.max()) > 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_head_is_the_same_on_a_gpu() -> None:
    spec = patient(putaminal(25.0))
    here = head_of(spec)
    atlas = ellipsoid_atlas()
    on_gpu = Atlas(
        brain=replace(atlas.brain, values=atlas.brain.values.cuda()),
        shell=replace(atlas.shell, values=atlas.shell.values.cuda()),
    )
    there = simulate_head(spec, GRID, on_gpu, CALM, device="cuda")
    assert float((here.hu - there.hu.cpu()).abs().median()) < 0.01
