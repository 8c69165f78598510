"""Painted hemorrhages have the wanted volume and lie where their type bleeds."""

import pytest
import torch
from scipy import ndimage

from tests.training.hemorrhage_factory import Bleeding, ellipsoid_head, lesion
from training.data.manifest import TYPES
from training.simulate.draw import Draw
from training.simulate.hemorrhage import Hemorrhage, potential
from training.simulate.intraaxial import centre
from training.simulate.scanner import as_labels
from training.simulate.space import Space
from training.simulate.spec import SITES, Lesion

SITED = [(type_, site) for type_, sites in SITES.items() for site in sites]


@pytest.fixture(scope="module")
def head() -> Space:
    return ellipsoid_head()


def painted_ml(painted: Hemorrhage, space: Space) -> float:
    return float(painted.share.sum()) * space.voxel_ml


def labels_of(painted: Hemorrhage) -> torch.Tensor:
    """(D, H, W), as a scanner without any blur shows them."""
    return as_labels(painted.by_type(), painted.hu)


@pytest.mark.parametrize(("type_", "site"), SITED)
def test_every_kind_is_painted_with_the_wanted_volume(head: Space, type_: str, site: str) -> None:
    painted = Bleeding((lesion(type_, site, volume_ml=6.0, irregularity=0.7, satellites=2),)).painted(head)
    assert painted_ml(painted, head) == pytest.approx(6.0, rel=0.01)
    labels = labels_of(painted)
    assert float((labels > 0).sum()) * head.voxel_ml == pytest.approx(6.0, rel=0.12)
    assert set(labels.flatten().tolist()) == {0, TYPES.index(type_) + 1}


@pytest.mark.parametrize("volume_ml", [0.1, 1.0, 110.0])
def test_a_parenchymal_hematoma_of_any_size_has_its_volume(head: Space, volume_ml: float) -> None:
    painted = Bleeding((lesion("IPH", "putamen", volume_ml=volume_ml, irregularity=1.0),)).painted(head)
    assert painted_ml(painted, head) == pytest.approx(volume_ml, rel=0.01)


def test_more_than_the_ventricles_hold_is_cut_and_the_real_volume_told(head: Space) -> None:
    painted = Bleeding((lesion("IVH", "ventricles", volume_ml=300.0),)).painted(head)
    room = float(head.ventricle.gt(0.5).sum()) * head.voxel_ml
    assert painted_ml(painted, head) == pytest.approx(room, rel=0.15)


def test_a_lesion_that_is_new_at_followup_is_absent_before(head: Space) -> None:
    bleeding = Bleeding((lesion("IVH", "ventricles", volume_ml=0.0, followup_ml=3.0),))
    assert not bleeding.painted(head).share.any()
    assert painted_ml(bleeding.painted(head, followup=True), head) == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize(
    ("type_", "site"), [("IPH", "putamen"), ("IPH", "lobar"), ("SDH", "convexity"), ("EDH", "convexity")]
)
def test_growth_keeps_the_baseline_and_is_more_than_an_inflation(head: Space, type_: str, site: str) -> None:
    before, after = (lesion(type_, site, volume_ml=v, followup_ml=30.0) for v in (15.0, 30.0))
    growing = Bleeding((before,))
    first, second = growing.painted(head), growing.painted(head, followup=True)
    assert (second.share >= first.share - 1e-5).all()
    assert painted_ml(second, head) == pytest.approx(30.0, rel=0.01)
    inflated = Bleeding((after,)).painted(head)
    common = torch.minimum(inflated.share, second.share).sum() / second.share.sum()
    assert common < 0.95


def test_two_hematomas_that_meet_share_no_voxel_twice(head: Space) -> None:
    both = Bleeding((lesion("IPH", "putamen", volume_ml=60.0), lesion("SDH", "convexity", volume_ml=90.0))).painted(
        head
    )
    assert float(both.share.max()) <= 1.001
    ml = {name: float(share.sum()) * head.voxel_ml for name, share in both.occupancy.items()}
    assert ml == {"IPH": pytest.approx(60.0, rel=0.01), "SDH": pytest.approx(90.0, rel=0.01)}


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(
    ("type_", "site"), [("IPH", "putamen"), ("IPH", "lobar"), ("SDH", "convexity"), ("EDH", "convexity")]
)
def test_blood_lies_on_its_side(head: Space, type_: str, site: str, side: int) -> None:
    blood = labels_of(Bleeding((lesion(type_, site, side=side),)).painted(head)) > 0
    assert (-side * head.mni_mm[0][blood] > -1).float().mean() > 0.99


def test_subdural_and_epidural_blood_lies_on_the_inner_table_and_an_epidural_is_the_thicker(head: Space) -> None:
    thickness = {}
    for type_ in ("SDH", "EDH"):
        blood = labels_of(Bleeding((lesion(type_, "convexity", volume_ml=30.0),)).painted(head)) > 0
        depth = head.depth_mm[blood]
        assert 0.5 < depth.min() < 2
        thickness[type_] = float(depth.max())
    assert thickness["SDH"] < thickness["EDH"] < 32


def test_parenchymal_blood_spares_the_ventricles_and_ventricular_blood_fills_only_them(head: Space) -> None:
    thalamic = Bleeding((lesion("IPH", "thalamus", volume_ml=15.0), lesion("IVH", "ventricles", volume_ml=8.0)))
    labels = labels_of(thalamic.painted(head))
    assert head.ventricle[labels == 1].max() < 0.5
    assert head.ventricle[labels == 2].min() > 0.3


def test_the_putamen_bleeds_at_the_putamen(head: Space) -> None:
    blood = labels_of(Bleeding((lesion("IPH", "putamen", side=-1, volume_ml=5.0),)).painted(head)) > 0
    x, y, z = head.mni_mm[:, blood].mean(dim=1).tolist()
    assert (x, y, z) == pytest.approx((27, 0, 3), abs=12)


def test_satellites_are_separate(head: Space) -> None:
    round_one = lesion("IPH", "lobar", volume_ml=25.0)
    island = lesion("IPH", "lobar", volume_ml=25.0, satellites=4)
    counts = [ndimage.label(labels_of(Bleeding((one,)).painted(head)).numpy() > 0)[1] for one in (round_one, island)]
    assert counts[0] == 1
    assert counts[1] >= 3


def test_irregular_hematomas_have_more_surface(head: Space) -> None:
    def surface(grade: float) -> int:
        blood = labels_of(Bleeding((lesion("IPH", "putamen", volume_ml=30.0, irregularity=grade),)).painted(head)) > 0
        return sum(int(blood.diff(dim=axis).sum()) for axis in range(3))

    assert surface(1.0) > 1.08 * surface(0.0)


def test_the_same_seed_bleeds_at_the_same_place_on_another_grid(head: Space) -> None:
    bleeding = Bleeding((lesion("IPH", "putamen", volume_ml=20.0, irregularity=0.5),), seed=7)
    middles = []
    for space in (head, ellipsoid_head((5.0, 2.5, 2.5))):
        share = bleeding.painted(space).share
        middles.append((space.mni_mm * share).sum((1, 2, 3)) / share.sum())
    assert (middles[0] - middles[1]).norm() < 1.5


def test_a_level_of_the_potential_is_the_hemorrhage(head: Space) -> None:
    one: Lesion = lesion("IPH", "putamen", volume_ml=20.0)
    draw = Draw(seed=3)
    height = potential(one, centre(one, head, draw), head, draw)
    assert float((height > 0).sum()) * head.voxel_ml == pytest.approx(20.0, rel=0.5)
