"""Painted blood and edema have the density of their age, hematocrit and signs."""

import pytest
import torch

from tests.training.hemorrhage_factory import Bleeding, ellipsoid_head, lesion
from training.simulate.space import Space

HOUR, DAY = 1.0, 24.0


@pytest.fixture(scope="module")
def head() -> Space:
    return ellipsoid_head()


def densities(
    head: Space, *, hematocrit: float = 0.42, type_: str = "IPH", site: str = "putamen", **signs: object
) -> torch.Tensor:
    one = lesion(type_, site, volume_ml=30.0, **signs)  # type: ignore[arg-type]
    painted = Bleeding((one,), hematocrit=hematocrit).painted(head)
    return painted.hu[painted.share > 0.95]


def test_a_clot_turns_denser_in_hours_and_fades_in_weeks(head: Space) -> None:
    fresh, clotted, week, months = (
        float(densities(head, age_h=age).mean()) for age in (0.5 * HOUR, 12 * HOUR, 10 * DAY, 60 * DAY)
    )
    assert 40 < fresh < clotted < 85
    assert clotted > week > months
    assert months < 30


def test_anemia_makes_blood_less_dense(head: Space) -> None:
    assert densities(head, hematocrit=0.25).mean() < densities(head, hematocrit=0.45).mean() - 15


@pytest.mark.parametrize("sign", ["swirl", "blend", "black_hole", "fluid_level"])
def test_a_sign_makes_part_of_the_hematoma_clearly_less_dense(head: Space, sign: str) -> None:
    plain, marked = densities(head), densities(head, **{sign: True})  # type: ignore[arg-type]
    change = plain - marked
    assert change.max() > 9
    assert 0.005 < (change > 5).float().mean() < 0.9


@pytest.mark.parametrize("hematocrit", [0.3, 0.36, 0.42, 0.5])
def test_both_parts_of_a_blend_show_as_blood(head: Space, hematocrit: float) -> None:
    plain, blended = (densities(head, hematocrit=hematocrit, blend=blend) for blend in (False, True))
    darker, denser = blended.quantile(torch.tensor([0.05, 0.95]))
    assert denser > darker + 18
    assert darker > min(float(plain.quantile(0.05)), 42) - 4
    assert denser <= 90


def test_the_lower_layer_of_a_fluid_level_is_the_denser_one(head: Space) -> None:
    painted = Bleeding((lesion("IPH", "lobar", volume_ml=30.0, fluid_level=True),)).painted(head)
    blood = painted.share > 0.95
    y, hu = head.mni_mm[1][blood], painted.hu[blood]
    assert hu[y < y.quantile(0.15)].mean() > hu[y > y.quantile(0.85)].mean() + 10


def test_blood_of_the_followup_is_a_day_older(head: Space) -> None:
    hyperacute = Bleeding((lesion("IPH", "putamen", volume_ml=30.0, age_h=0.5),))
    before, after = hyperacute.painted(head), hyperacute.painted(head, followup=True)
    assert after.hu[after.share > 0.95].mean() > before.hu[before.share > 0.95].mean() + 5


def test_edema_is_a_faint_dark_rim_of_the_wanted_volume_around_parenchymal_blood_only(head: Space) -> None:
    edematous = Bleeding((lesion("IPH", "putamen", volume_ml=15.0, edema_ml=12.0),)).painted(head)
    darkest = float(edematous.edema_hu.min())
    assert -15 <= darkest <= -7
    assert float((edematous.edema_hu / darkest).sum()) * head.voxel_ml == pytest.approx(12.0, rel=0.05)
    assert edematous.edema_hu[edematous.share > 0.99].min() > -0.2
    assert not Bleeding((lesion("SDH", "convexity", edema_ml=12.0),)).painted(head).edema_hu.any()


@pytest.mark.parametrize(("type_", "site"), [("IVH", "ventricles"), ("SAH", "cisterns")])
@pytest.mark.parametrize("seed", range(6))
def test_blood_in_csf_is_denser_than_brain_wherever_it_is_called_blood(
    head: Space, type_: str, site: str, seed: int
) -> None:
    painted = Bleeding((lesion(type_, site, volume_ml=20.0),), seed=seed).painted(head)
    assert float((painted.hu[painted.share > 0.5] < 38).float().mean()) < 0.1
