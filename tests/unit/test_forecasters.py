"""Follow-up, prognosis, and volume with survival: what the networks of systems A, B and C say, in the node."""

import json
from dataclasses import replace
from math import exp
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor, nn

from ichnode.domain.findings import EstimateName, GcsCategory
from ichnode.errors import InferenceError
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.volume import Volume
from ichnode.inference.bundle import Bundle, shipped_bundles
from ichnode.inference.followup import AfterThrombectomyPredictor, SpontaneousPredictor
from ichnode.inference.head import Head
from ichnode.inference.manifest import ANY_MANIFEST, ForecasterManifest
from ichnode.inference.prognosis import PrognosisPredictor
from ichnode.inference.volume_survival import VolumeSurvivalPredictor
from models import followup, prognosis, volume_survival
from models.familiarity import Familiarity
from tests.bundle_factory import CALIBRATION, NETWORKS
from tests.volume_factory import grid_of

SHAPE = (16, 40, 40)
MODEL = json.loads((shipped_bundles() / "hematoma-baseline" / "manifest.json").read_text())


def manifest_of(kind: str, **values: Any) -> ForecasterManifest:
    keys = ("version", "weights_sha256", "trained_on", "intended_use", "created", "reference", "architecture", "family")
    said = {key: MODEL[key] for key in keys} | {
        "kind": kind,
        "name": kind,
        "grid_spacing_mm": [4.0, 4.0, 4.0],
        "shape": SHAPE,
        "hematoma_ml": [0.5, 100.0],
        "strangest": 2.0,
    }
    manifest = ANY_MANIFEST.validate_python(said | NETWORKS[kind][1] | values)
    assert isinstance(manifest, ForecasterManifest)
    return manifest


class Says(nn.Module):
    """A network that answers what it is told to, and remembers what it read."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer, self.familiarity = answer, Familiarity(1)

    def forward(self, *read: Tensor) -> Any:
        self.seen = read[0]
        return self.answer


class SaysPrognosis(Says):
    config = prognosis.COMPACT


def prognosis_of(poor: float = 0.0, gcs: tuple[float, float] = (0.0, 0.0), elderly: float = 0.0) -> SaysPrognosis:
    one, nothing = torch.tensor, torch.zeros(1, 1)
    return SaysPrognosis(prognosis.Answers(one([poor]), one([gcs]), one([elderly]), torch.zeros(1, 3), nothing))


def bundle_of(network: nn.Module, kind: str, **values: Any) -> Bundle[Any]:
    manifest = manifest_of(kind, **values)
    return Bundle(manifest=manifest, network=network, identity=manifest.identity)


@pytest.fixture
def head() -> Head:
    """A round head of 38 HU, 4 mm voxels, and 13.8 mL of blood of 65 HU beside its middle."""
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    hematoma = np.zeros(SHAPE, bool)
    hematoma[6:12, 16:22, 14:20] = True
    hu = np.where(((y - 19.5) ** 2 + (x - 19.5) ** 2) < 17**2, 38, -1000)
    volume = Volume(
        hu=np.where(hematoma, 65, hu).astype(np.float32),
        grid=grid_of(SHAPE, slice_mm=4.0, pixel_spacing_mm=(4.0, 4.0)),
    )
    probability = hematoma.astype(np.float32)
    now = Prediction(model=manifest_of("prognosis").identity, probability=probability, hematoma=hematoma)
    return Head(volume=volume, now=now, find=above_60_hu)


def above_60_hu(volume: Volume) -> Prediction:
    """What is denser, as hematoma."""
    found = volume.hu > 60
    return Prediction(model=manifest_of("prognosis").identity, probability=found.astype(np.float32), hematoma=found)


def test_the_network_reads_hu_of_the_head_in_the_middle(head: Head) -> None:
    network = prognosis_of()
    PrognosisPredictor(bundle_of(network, "prognosis"), "cpu").predict(head)
    assert network.seen.shape == (1, 1, *SHAPE)
    assert sorted(network.seen.unique().tolist()) == [-1000, 38, 65]


def test_the_network_is_shown_the_skull_that_a_window_clipped(head: Head) -> None:
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ring = np.hypot(y - 19.5, x - 19.5)
    hu = np.where((ring > 13) & (ring < 17), 1000, head.volume.hu).clip(0, 80).astype(np.float32)
    network = prognosis_of()
    PrognosisPredictor(bundle_of(network, "prognosis"), "cpu").predict(
        replace(head, volume=replace(head.volume, hu=hu))
    )
    assert network.seen.max() > 500


def test_a_network_that_has_seen_brains_alone_is_shown_the_brain_alone(head: Head) -> None:
    """What lies outside the skull is water to it."""
    network = prognosis_of()
    network.config = replace(prognosis.COMPACT, stripped=True)
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    away = (y - 19.5) ** 2 + (x - 19.5) ** 2
    hu = np.where((away > 15**2) & (away < 17**2), 1000, head.volume.hu).astype(np.float32)
    skull = replace(head, volume=replace(head.volume, hu=hu))
    PrognosisPredictor(bundle_of(network, "prognosis"), "cpu").predict(skull)
    assert sorted(network.seen.unique().tolist()) == [0, 38, 65]


def test_heat_of_a_network_that_learned_rows_from_back_to_front_lies_on_the_head() -> None:
    config = replace(prognosis.COMPACT, shape=(32, 32, 32), features=8, growth=4, blocks=(1, 1, 1, 1))
    torch.manual_seed(0)
    as_it_lies = prognosis.Prognosis(config).eval()
    turned = prognosis.Prognosis(replace(config, anterior_last=True)).eval()
    turned.load_state_dict(as_it_lies.state_dict())
    hu = torch.rand(1, 1, 32, 32, 32) * 80
    here, there = (
        PrognosisPredictor(bundle_of(network, "prognosis"), "cpu").heat((read,))
        for network, read in ((turned, hu), (as_it_lies, hu.flip(-2)))
    )
    assert float(here.abs().max()) > 0
    assert torch.allclose(here, there.flip(-2), rtol=1e-4, atol=1e-12)


def test_each_answer_is_calibrated_by_itself(head: Head) -> None:
    network = prognosis_of(poor=1.0, gcs=(3.0, 2.0), elderly=-1.0)
    twice = {"scale": 2.0, "shift": 0.5, "spread": 0.0}
    bundle = bundle_of(network, "prognosis", poor=twice)
    poor, low_gcs, elderly = PrognosisPredictor(bundle, "cpu").predict(head).estimates
    assert (poor.name, poor.note) == (EstimateName.POOR_OUTCOME_PROBABILITY, "mRS 4-6")
    assert (poor.value, poor.low, poor.high) == pytest.approx((100 / (1 + exp(-2.5)),) * 3)
    assert low_gcs.value == pytest.approx(100 / (1 + exp(-2.0)))
    assert (elderly.low, elderly.high) == pytest.approx((100 / (1 + exp(1.5)), 100 / (1 + exp(0.5))))


@pytest.mark.parametrize(
    ("units", "category"),
    [
        ((-1.0, -1.0), GcsCategory.MILD),
        ((1.0, -1.0), GcsCategory.MODERATE),
        ((-1.0, 1.0), GcsCategory.MODERATE),
        ((1.0, 1.0), GcsCategory.SEVERE),
    ],
)
def test_as_many_units_as_are_on_so_much_worse_is_the_category(
    head: Head, units: tuple[float, float], category: GcsCategory
) -> None:
    network = prognosis_of(gcs=units)
    assert PrognosisPredictor(bundle_of(network, "prognosis"), "cpu").predict(head).estimates[1].category == category


def test_a_size_is_a_volume_and_the_difference_of_two_logits_a_probability(head: Head) -> None:
    answer = volume_survival.Answers(torch.tensor([2.0]), torch.tensor([[1.0, 4.0]]), torch.zeros(1, 1))
    bundle = bundle_of(Says(answer), "volume-survival", size_error_cm=(-0.5, 1.0))
    volume, death = VolumeSurvivalPredictor(bundle, "cpu").predict(head).estimates
    assert (volume.value, volume.low, volume.high) == pytest.approx((8.0, 1.5**3, 27.0))
    assert death.value == pytest.approx(100 / (1 + exp(-3.0)))


def test_a_size_below_nothing_is_no_volume(head: Head) -> None:
    answer = volume_survival.Answers(torch.tensor([-1.0]), torch.zeros(1, 2), torch.zeros(1, 1))
    volume, _ = VolumeSurvivalPredictor(bundle_of(Says(answer), "volume-survival"), "cpu").predict(head).estimates
    assert (volume.value, volume.low, volume.high) == (0.0, 0.0, 0.0)


def followup_of(change: Tensor, logits: tuple[float, float] = (0.0, 0.0)) -> "Adds":
    attention = torch.zeros(1, 4, 10, 10)
    attention[:, 2, 3, 4] = 0.5
    return Adds(change, followup.Prediction(change, torch.tensor([logits]), attention, torch.zeros(1, 1)))


class Adds(Says):
    """Answers with the brain that it read and something more."""

    def __init__(self, change: Tensor, answer: followup.Prediction) -> None:
        super().__init__(answer)
        self.change = change

    def forward(self, *read: Tensor) -> Any:
        self.brain = followup.brain_alone(*read)
        return super().forward(*read)._replace(ct_bcdhw=(self.brain + self.change).clamp(0, 1))


def test_the_next_ct_is_this_one_and_what_the_network_adds(head: Head) -> None:
    change = torch.zeros(1, 1, *SHAPE)
    change[..., 4:8, 24:28, 24:28] = 0.3  # 30 HU
    change[..., 10:, :, :] = 0.009  # below 1 HU
    bundle = bundle_of(followup_of(change, (1.0, 3.0)), "followup", after_thrombectomy=CALIBRATION | {"shift": 1.0})
    spontaneous, after_thrombectomy = (
        predictor(bundle, "cpu").predict(head, explain=True)
        for predictor in (SpontaneousPredictor, AfterThrombectomyPredictor)
    )
    assert spontaneous.followup is not None
    added = spontaneous.followup.hu - head.volume.hu
    assert head.volume.grid.volume_ml(added > 29) == pytest.approx(4 * 4 * 4 * 0.064, rel=0.3)
    assert added[12:].max() == 0
    new = spontaneous.followup.hematoma & ~head.now.hematoma
    np.testing.assert_array_equal(new, (head.volume.hu + added > 60) & ~head.now.hematoma)
    assert new.any()
    ((growth,), (late,)) = (forecast.estimates for forecast in (spontaneous, after_thrombectomy))
    assert growth.value == pytest.approx(100 / (1 + exp(-2.0)))
    assert late.value == pytest.approx(100 / (1 + exp(-3.0)))
    assert "an adaptation" in growth.note
    assert late.note == "after thrombectomy"
    assert spontaneous.heat is not None
    assert spontaneous.heat.max() == 1


def test_after_thrombectomy_a_head_without_hematoma_is_asked_about_too(head: Head) -> None:
    clear = replace(head, now=replace(head.now, hematoma=np.zeros(SHAPE, bool)))
    assert AfterThrombectomyPredictor.least_ml <= clear.growing_ml < SpontaneousPredictor.least_ml
    bundle = bundle_of(followup_of(torch.zeros(1, 1, *SHAPE)), "followup", hematoma_ml=(0.0, 100.0), spontaneous=None)
    assert AfterThrombectomyPredictor(bundle, "cpu").predict(clear).estimates[0].value == 50


def test_the_followup_network_is_shown_the_head_and_where_its_brain_is(head: Head) -> None:
    hu = head.volume.hu.copy()
    shell = (hu > -1000) & ~binary_erosion(hu > -1000, iterations=2)
    hu[shell] = 1000
    hu[:, :2, :2] = 50  # beside the head
    network = followup_of(torch.zeros(1, 1, *SHAPE))
    volume = replace(head.volume, hu=hu)
    AfterThrombectomyPredictor(bundle_of(network, "followup"), "cpu").predict(replace(head, volume=volume))
    np.testing.assert_array_equal(network.seen[0, 0], hu)
    brain = network.brain[0, 0]
    assert (brain[:, :4, :4] == 0).all()
    assert float(brain.max()) == pytest.approx(0.65)
    assert float(brain[8, 20, 20]) == pytest.approx(0.38)


def test_bone_and_what_lies_outside_it_do_not_change(head: Head) -> None:
    hu = head.volume.hu.copy()
    inside = hu > -1000
    hu[inside & ~binary_erosion(inside, np.ones((1, 5, 5)))] = 1000
    for change in (1.0, -1.0):
        bundle = bundle_of(followup_of(torch.full((1, 1, *SHAPE), change)), "followup")
        forecast = AfterThrombectomyPredictor(bundle, "cpu").predict(replace(head, volume=replace(head.volume, hu=hu)))
        assert forecast.followup is not None
        outside = ~inside | (hu == 1000)
        np.testing.assert_array_equal(forecast.followup.hu[outside], hu[outside])
        assert abs(forecast.followup.hu[8, 20, 20] - hu[8, 20, 20]) > 30


def test_hematomas_and_heads_that_it_does_not_know_make_it_abstain_and_say_why(head: Head) -> None:
    small = bundle_of(prognosis_of(), "prognosis", hematoma_ml=(0.5, 10.0))
    estimates = PrognosisPredictor(small, "cpu").predict(head).estimates
    assert [estimate.value for estimate in estimates] == [None] * 3
    assert "13.8 mL; the model was trained on 0.5 to 10 mL" in estimates[0].note

    strange = prognosis_of()
    strange.answer = strange.answer._replace(features_bf=torch.full((1, 1), 7.0))
    estimates = PrognosisPredictor(bundle_of(strange, "prognosis"), "cpu").predict(head).estimates
    assert [estimate.value for estimate in estimates] == [None] * 3
    assert "unlike those" in estimates[0].note


def test_a_child_makes_it_abstain(head: Head) -> None:
    predictor = PrognosisPredictor(bundle_of(prognosis_of(), "prognosis"), "cpu")
    grown_up, child = (predictor.predict(replace(head, known={"age": age})).estimates[0] for age in (18.0, 0.25))
    assert grown_up.value is not None
    assert child.value is None
    assert "younger than 18 years" in child.note


def test_answers_that_are_no_numbers_are_an_error(head: Head) -> None:
    with pytest.raises(InferenceError, match="not numbers"):
        PrognosisPredictor(bundle_of(prognosis_of(elderly=float("inf")), "prognosis"), "cpu").predict(head)
