"""The predicted next day: what does not change stays as it is, blood moves and grows in place, and numbers say so."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor, nn

from ichnode.domain.findings import EstimateName, RiskClass
from ichnode.errors import InferenceError
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.volume import Mask, Volume
from ichnode.inference.bundle import Bundle, shipped_bundles
from ichnode.inference.expansion import CLINICAL, ExpansionPredictor
from ichnode.inference.head import Head
from ichnode.inference.manifest import ExpansionManifest
from models import expansion
from models.expansion import DenseFollowup
from models.familiarity import Familiarity
from tests.volume_factory import grid_of

SHAPE = (16, 40, 40)
MODEL = json.loads((shipped_bundles() / "hematoma-baseline" / "manifest.json").read_text())
MANIFEST = ExpansionManifest.model_validate(
    {key: MODEL[key] for key in ("version", "weights_sha256", "trained_on", "intended_use", "created", "reference")}
    | {
        "kind": "expansion",
        "name": "expansion",
        "architecture": "expansion:DenseExpansion",
        "family": "neural network",
        "grid_spacing_mm": [4.0, 4.0, 4.0],
        "shape": SHAPE,
        "expands": {"scale": 1.0, "shift": 0.0, "spread": 1.0},
        "expands_3_ml": {"scale": 2.0, "shift": 1.0, "spread": 1.0},
        "size_error_cm": [-0.2, 0.3],
        "hematoma_ml": [0.5, 100.0],
        "strangest": 2.0,
        "risk_percent": [10.0, 30.0],
    }
)


class Says(nn.Module):
    """A network that moves all by the same voxels, adds the same share of new blood in a box, and remembers."""

    def __init__(
        self,
        *,
        move: tuple[float, float, float] = (0, 0, 0),
        new: float = 0.0,
        logit: float = 0.0,
        feature: float = 0.0,
    ) -> None:
        super().__init__()
        self.move, self.new, self.logit, self.feature = move, new, logit, feature
        self.familiarity = Familiarity(1)

    def forward(self, x_bcdhw: Tensor, clinical_bn: Tensor) -> DenseFollowup:
        self.seen, self.clinical = x_bcdhw, clinical_bn
        displacement = torch.tensor(self.move)[None, :, None, None, None].expand(1, 3, *SHAPE).contiguous()
        blood = x_bcdhw[:, 1:].sum(1, keepdim=True).roll([-round(step) for step in self.move], (2, 3, 4))
        fresh = torch.zeros_like(blood)
        fresh[..., 2:6, 18:22, 26:30] = self.new
        return DenseFollowup(
            ct_bcdhw=x_bcdhw[:, :1],
            hematoma_bcdhw=blood + fresh * (1 - blood),
            field_bcdhw=displacement,
            displacement_bcdhw=displacement,
            new_bcdhw=fresh * (1 - blood),
            expands_bk=torch.full((1, 2), self.logit),
            features_bf=torch.full((1, 1), self.feature),
        )


def predictor(network: nn.Module, **values: Any) -> ExpansionPredictor:
    manifest = MANIFEST.model_copy(update=values)
    return ExpansionPredictor(Bundle(manifest=manifest, network=network, identity=manifest.identity), "cpu")


@pytest.fixture
def head() -> tuple[Volume, Prediction]:
    """A round head of 38 HU with noise, 4 mm voxels, and a cube of parenchymal blood of 13.8 mL beside its middle."""
    shape = (16, 40, 40)
    grid = grid_of(shape, slice_mm=4.0, pixel_spacing_mm=(4.0, 4.0))
    _, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    inside = ((y - 19.5) ** 2 + (x - 19.5) ** 2) < 17**2
    hematoma = np.zeros(shape, bool)
    hematoma[6:12, 16:22, 14:20] = True
    hu = np.where(inside, 38 + np.random.default_rng(1).normal(0, 3, shape), -1000)
    hu = np.where(hematoma, 65, hu).astype(np.float32)
    return Volume(hu=hu, grid=grid), prediction_of(hematoma)


def head_of(volume: Volume, now: Prediction, known: Mapping[str, float] | None = None) -> Head:
    def find(volume: Volume) -> Prediction:
        raise AssertionError("the next day is not looked for, it is made")

    return Head(volume=volume, now=now, find=find, known=known or {})


def prediction_of(hematoma: Mask, kind: int = 1) -> Prediction:
    return Prediction(
        model=MANIFEST.identity,
        probability=hematoma.astype(np.float32),
        hematoma=hematoma,
        classes=("IPH", "IVH", "SDH"),
        types=hematoma.astype(np.uint8) * np.uint8(kind),
    )


def test_where_nothing_changes_the_next_day_is_today_to_the_last_bit(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    forecast = predictor(Says(new=0.01)).predict(head_of(volume, now))
    assert forecast.followup is not None
    assert np.array_equal(forecast.followup.hu, volume.hu)
    assert np.array_equal(forecast.followup.hematoma, now.hematoma)
    change = {estimate.name: estimate for estimate in forecast.estimates}[EstimateName.VOLUME_CHANGE]
    assert change.value == pytest.approx(0)


def test_all_is_read_so_far_from_its_place_as_the_network_says(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    forecast = predictor(Says(move=(0, 1, -2))).predict(head_of(volume, now))  # voxels of 4 mm along z, y, x
    assert forecast.followup is not None
    within = np.s_[4:12, 12:28, 12:28]
    np.testing.assert_allclose(forecast.followup.hu[within], np.roll(volume.hu, (-1, 2), (1, 2))[within], atol=0.01)
    assert np.array_equal(forecast.followup.hematoma[within], np.roll(now.hematoma, (-1, 2), (1, 2))[within])


def test_bone_and_what_lies_outside_it_do_not_move(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    inside = volume.hu > -1000
    skull = inside & ~binary_erosion(inside, np.ones((1, 5, 5)))
    skulled = replace(volume, hu=np.where(skull, np.float32(1000), volume.hu))
    forecast = predictor(Says(move=(0, 1, -2))).predict(head_of(skulled, now))
    assert forecast.followup is not None
    assert np.array_equal(forecast.followup.hu[skull | ~inside], skulled.hu[skull | ~inside])
    within = np.s_[4:12, 14:26, 14:26]
    np.testing.assert_allclose(forecast.followup.hu[within], np.roll(volume.hu, (-1, 2), (1, 2))[within], atol=1.0)


def test_new_blood_is_as_dense_as_the_old_and_all_else_is_untouched(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    forecast = predictor(Says(new=1.0)).predict(head_of(volume, now))
    assert forecast.followup is not None
    new = forecast.followup.hematoma & ~now.hematoma
    assert volume.grid.volume_ml(new) == pytest.approx(4 * 4 * 4 * 0.064, rel=0.3)
    np.testing.assert_allclose(forecast.followup.hu[new], 65, atol=15)
    changed = forecast.followup.hu != volume.hu
    assert volume.grid.volume_ml(changed) < 4 * volume.grid.volume_ml(new)


def test_the_network_sees_the_head_in_the_middle_and_both_kinds_of_blood(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    network = Says()
    predictor(network).predict(head_of(volume, now, known={"age": 71.0, "gcs": 9.0}))
    assert network.seen.shape == (1, 3, *SHAPE)
    assert float(network.seen[:, 0].max()) == pytest.approx(0.65, abs=0.01)
    assert float(network.seen[:, 1].sum()) * 0.064 == pytest.approx(volume.grid.volume_ml(now.hematoma), rel=0.05)
    known = dict(zip(CLINICAL, network.clinical[0].tolist(), strict=True))
    assert (known["age"], known["gcs"]) == (71.0, 9.0)
    assert known["baseline_ml"] == pytest.approx(volume.grid.volume_ml(now.hematoma))
    assert known["systolic_mmhg"] != known["systolic_mmhg"]

    predictor(network).predict(head_of(volume, prediction_of(now.hematoma, kind=2)))
    assert float(network.seen[:, 1].sum()) == 0
    assert float(network.seen[:, 2].sum()) > 0


def test_blood_that_does_not_grow_by_this_model_stays(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    forecast = predictor(Says(move=(0, 0, 3))).predict(head_of(volume, prediction_of(now.hematoma, kind=3)))
    assert forecast.followup is None  # nothing that it knows of
    assert all(estimate.value is None for estimate in forecast.estimates)


def test_the_numbers_have_intervals(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    estimates = predictor(Says(new=1.0, logit=0.0)).predict(head_of(volume, now)).estimates
    probability, small, predicted, change = estimates
    assert (probability.value, probability.low, probability.high) == pytest.approx((50, 26.9, 73.1), abs=0.1)
    assert (small.value, small.low, small.high) == pytest.approx((73.1, 50, 88.1), abs=0.1)
    assert predicted.value is not None
    assert predicted.low == pytest.approx((predicted.value ** (1 / 3) - 0.2) ** 3)
    assert predicted.high == pytest.approx((predicted.value ** (1 / 3) + 0.3) ** 3)
    assert change.value == pytest.approx(predicted.value - volume.grid.volume_ml(now.hematoma))


def test_blood_that_stays_is_in_the_volume_and_not_in_its_change(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    assert now.types is not None
    mixed = replace(now, types=np.where(np.arange(16)[:, None, None] < 8, now.types, now.types * np.uint8(3)))
    forecast = predictor(Says()).predict(head_of(volume, mixed))
    assert forecast.followup is not None
    *_, predicted, change = forecast.estimates
    assert predicted.value == pytest.approx(volume.grid.volume_ml(forecast.followup.hematoma))
    assert predicted.value == pytest.approx(volume.grid.volume_ml(now.hematoma))
    assert change.value == pytest.approx(0)


def test_beyond_what_it_was_trained_on_it_abstains_and_says_why(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    forecast = predictor(Says(), hematoma_ml=(0.5, 10.0)).predict(head_of(volume, now))
    assert forecast.followup is None
    assert [estimate.value for estimate in forecast.estimates] == [None] * 4
    assert "13.8 mL; the model was trained on 0.5 to 10 mL" in forecast.estimates[0].note


def test_a_head_unlike_those_it_was_trained_on_makes_it_abstain(head: tuple[Volume, Prediction]) -> None:
    seen = head_of(*head)
    assert predictor(Says(feature=-2.0)).predict(seen).followup is not None
    forecast = predictor(Says(feature=-2.1)).predict(seen)
    assert forecast.followup is None
    assert {estimate.note for estimate in forecast.estimates} == {
        "the head is unlike those that the model was trained on (2.1; the model knows up to 2.0)"
    }


@pytest.mark.parametrize(("logit", "risk"), [(-2.3, RiskClass.LOW), (-2.1, RiskClass.MODERATE), (-0.8, RiskClass.HIGH)])
def test_the_risk_has_a_class(head: tuple[Volume, Prediction], logit: float, risk: RiskClass) -> None:
    forecast = predictor(Says(logit=logit)).predict(head_of(*head))
    assert forecast.estimates[0].category == risk


def test_beyond_the_edge_the_nearest_voxel_is_read(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    forecast = predictor(Says(move=(-2, 0, 0))).predict(head_of(volume, now))
    assert forecast.followup is not None
    inside = np.s_[:, 12:28, 12:28]
    assert forecast.followup.hu[inside].min() > 0
    np.testing.assert_allclose(forecast.followup.hu[0][inside[1:]], volume.hu[0][inside[1:]], atol=0.01)


def test_answers_that_are_no_numbers_are_an_error(head: tuple[Volume, Prediction]) -> None:
    with pytest.raises(InferenceError, match="not numbers"):
        predictor(Says(logit=float("nan"))).predict(head_of(*head))


def test_a_model_that_tells_no_types_apart_has_parenchymal_blood_alone(head: tuple[Volume, Prediction]) -> None:
    volume, now = head
    network = Says()
    predictor(network).predict(head_of(volume, replace(now, types=None)))
    assert float(network.seen[:, 1].sum()) > 0


def test_the_node_names_what_is_known_as_the_network_does() -> None:
    assert CLINICAL == expansion.CLINICAL
