"""Grafts: hematomas of known truth in a head that was really scanned; the phantom stands for it where it can."""

from dataclasses import replace
from math import pi

import numpy as np
import pytest
import torch

from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.volume import Volume
from ichnode.phantom import TILTED, head_ct
from tests.series_factory import stored_series
from tests.training.atlas_factory import ellipsoid_atlas
from training.data.manifest import DataError
from training.simulate.anatomy import lps_mm
from training.simulate.background import Background, as_acquired, background_of, graft, read_background
from training.simulate.cohort import patient_spec
from training.simulate.spec import Lesion, PatientSpec
from training.simulate.template import template_atlas

GEOMETRY = replace(TILTED, rows=160, columns=160)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Volume:
    datasets = head_ct(hematoma_ml=0, geometry=GEOMETRY).datasets
    return read_volume(stored_series(datasets, tmp_path_factory.mktemp("head")))


@pytest.fixture(scope="module")
def background(phantom) -> Background:
    return background_of(phantom, ellipsoid_atlas())


@pytest.fixture(scope="module")
def ge_head(test_data) -> tuple[Volume, Background]:
    volume = read_background(test_data / "ge_head_nct")
    return volume, background_of(volume, template_atlas())


def bleeding(type_: str, site: str, volume_ml: float, side: int = 1) -> PatientSpec:
    lesion = Lesion(type=type_, site=site, side=side, volume_ml=volume_ml, followup_ml=volume_ml, age_h=3.0)
    return replace(patient_spec(3, "normal"), lesions=(lesion,))


def test_the_cavity_ends_at_the_skull(background):
    cavity_ml = float((background.space.depth_mm > 0).sum()) * background.space.voxel_ml
    assert cavity_ml == pytest.approx(4 / 3 * pi * 6.6 * 8.6 * 7.2, rel=0.05)


def test_every_place_of_the_head_is_found_in_the_atlas(background):
    lps, deep = lps_mm(background.space.grid, "cpu"), background.space.depth_mm > 5
    expected = lps * torch.tensor([-1.0, -1.0, 1.0])[:, None, None, None]
    error = (background.space.mni_mm - expected).norm(dim=0)[deep]
    assert float(error.median()) < 4.0


def test_ventricles_are_told_from_sulci(background):
    ventricle, csf = background.space.ventricle, background.space.csf
    assert float(ventricle.sum()) * background.space.voxel_ml == pytest.approx(
        2 * 4 / 3 * pi * 0.5 * 2.6 * 0.9, rel=0.35
    )
    assert float(csf[background.space.depth_mm > 20].sum()) < 0.1 * float(ventricle.sum())


@pytest.mark.parametrize(
    ("type_", "site", "volume_ml", "hidden"),  # share along the skull that shows as bright as bone
    [("IPH", "putamen", 20.0, 0.1), ("SDH", "convexity", 40.0, 0.2), ("EDH", "convexity", 25.0, 0.1)],
)
def test_a_graft_holds_the_volume_that_was_asked_for(phantom, background, type_, site, volume_ml, hidden):
    grafted = graft(bleeding(type_, site, volume_ml), background)
    assert float(grafted.occupancy.sum()) * grafted.space.voxel_ml == pytest.approx(volume_ml, rel=0.02)
    _, labels = as_acquired(grafted, background, phantom)
    assert phantom.grid.volume_ml(labels > 0) == pytest.approx(volume_ml, rel=hidden)


def test_labels_lie_on_the_blood_that_is_seen(phantom, background):
    seen, labels = as_acquired(graft(bleeding("IPH", "putamen", 20.0), background), background, phantom)
    blood = labels == 1
    assert np.median(seen.hu[blood]) > np.median(phantom.hu[blood]) + 15


def test_skull_and_air_stay_as_they_were_scanned(phantom, background):
    seen, _ = as_acquired(graft(bleeding("SDH", "convexity", 40.0), background), background, phantom)
    outside = (phantom.hu > 800) | (phantom.hu < -500)
    assert np.abs(seen.hu - phantom.hu)[outside].mean() < 1.0
    assert seen.grid is phantom.grid


def test_a_head_without_lesions_is_the_head_itself(phantom, background):
    seen, labels = as_acquired(graft(patient_spec(3, "normal"), background), background, phantom)
    assert np.array_equal(seen.hu, phantom.hu)
    assert not labels.any()


def test_ventricles_give_way_to_a_hematoma_of_the_left_side(background):
    x = lps_mm(background.space.grid, "cpu")[0]
    after = graft(bleeding("IPH", "putamen", 60.0), background).space.ventricle
    before = background.space.ventricle
    assert float((after * x).sum() / after.sum()) < float((before * x).sum() / before.sum()) - 0.5


def test_air_alone_is_refused(phantom):
    with pytest.raises(DataError, match="no head"):
        background_of(replace(phantom, hu=np.full_like(phantom.hu, -1000)), ellipsoid_atlas())


def test_the_real_head_takes_a_hematoma_of_the_right_size(ge_head):
    volume, background = ge_head
    _, labels = as_acquired(graft(bleeding("IPH", "putamen", 20.0), background), background, volume)
    assert volume.grid.volume_ml(labels == 1) == pytest.approx(20.0, rel=0.08)


def test_the_real_skull_is_not_painted_over(ge_head):
    volume, background = ge_head
    seen, labels = as_acquired(graft(bleeding("EDH", "convexity", 30.0), background), background, volume)
    assert np.abs(seen.hu - volume.hu)[volume.hu > 800].mean() < 2.0
    assert np.mean(volume.hu[labels == 5] > 500) < 0.02


def test_a_head_far_from_the_scanners_origin_bleeds_as_one_at_the_origin(phantom, background):
    far = replace(phantom.grid, positions_lps=phantom.grid.positions_lps + np.array([150.0, -140.0, -700.0]))
    moved = replace(phantom, grid=far)
    spec = bleeding("IPH", "putamen", 20.0)
    there = background_of(moved, ellipsoid_atlas())
    _, labels = as_acquired(graft(spec, there), there, moved)
    _, expected = as_acquired(graft(spec, background), background, phantom)
    assert np.count_nonzero(labels != expected) < 0.02 * np.count_nonzero(expected)
