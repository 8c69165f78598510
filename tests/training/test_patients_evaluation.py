"""Systems B and C are measured as their papers do, and the page of all evaluations is kept section by section."""

from dataclasses import replace
from math import log10, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ichnode.imaging.volume import Volume
from ichnode.inference.manifest import Calibration
from models import followup, prognosis, volume_survival
from tests.training.patients_factory import patients
from tests.unit.test_forecasters import manifest_of
from training.data.manifest import UNKNOWN
from training.fit.system import System
from training.followup import evaluate as of_followup
from training.followup.system import FollowupSystem, seen_of
from training.patients.batch import KNOWN, Patients
from training.patients.comparison import compared
from training.patients.evaluation import (
    COMPARED,
    FROM_NUMBERS,
    Contender,
    Evaluation,
    auc,
    from_numbers,
    mean,
    picture_of,
    write_section,
)
from training.patients.plans import PLANS
from training.patients.plots import write_picture
from training.prognosis import evaluate as of_prognosis
from training.prognosis.system import PrognosisSystem
from training.volume_survival import evaluate as of_volume_survival
from training.volume_survival.system import VolumeSurvivalSystem

OUTCOMES = ((0, 0), (1, 0), (0, 1), (1, 1), (1, 1), (1, 1), (0, 0), (0, 0), (0, 0), (1, 1))  # said, true


class Says(nn.Module):
    """A network with one answer after another."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__()
        self.answers = iter(answers)

    def forward(self, *read: Tensor) -> Any:
        return next(self.answers)


def contender(answers: list[Any], system: System) -> Contender:
    return Contender(network=Says(answers), system=system, manifest=manifest_of(KINDS[type(system)]))


KINDS = {PrognosisSystem: "prognosis", VolumeSurvivalSystem: "volume-survival", FollowupSystem: "followup"}


def alone(truth: float, gcs: float = 15, volume_ml: float = 0.0, *, masked: bool = True) -> Patients:
    """One patient of the factory."""
    four = patients(poor=(truth,) * 4, died=(truth,) * 4, gcs=(gcs,) * 4)
    one = Patients(**{name: tensor[:1] for name, tensor in four.tensors().items()})
    one.known_bn[0, KNOWN.index("baseline_ml")] = volume_ml
    if not masked:
        one.labels_bdhw.fill_(UNKNOWN)
    return one


def test_poor_outcome_is_measured_as_in_the_paper() -> None:
    one = torch.tensor
    answers = [
        prognosis.Answers(one([2.0 * said - 1]), one([[1.0, -1.0]]), one([0.0]), torch.zeros(1, 3), torch.zeros(1, 1))
        for said, _ in OUTCOMES
    ]
    batches = [alone(true, gcs=10, volume_ml=30.0 * true) for _, true in OUTCOMES]
    system = PrognosisSystem()
    rows = of_prognosis.rows({"it": contender(answers, system)}, batches, system)
    values = {name: figure.value for name, figure in rows["it"].items()}
    assert values["accuracy"] == pytest.approx(0.8)
    assert (values["recall"], values["specificity"]) == pytest.approx((4 / 5, 4 / 5))
    assert (values["precision"], values["NPV"], values["F1"]) == pytest.approx((4 / 5, 4 / 5, 4 / 5))
    assert values["AUC"] == pytest.approx(0.8)
    assert values["GCS category right"] == 1
    assert rows[FROM_NUMBERS]["AUC"].value == 1
    assert rows[of_prognosis.MAJORITY]["accuracy"].value == pytest.approx(0.5)
    assert rows[of_prognosis.MAJORITY]["AUC GCS 8 or less"].value is None


def test_what_was_published_has_a_row_for_each_of_ours() -> None:
    """By the names of the variants, under the headings of our own table."""
    published = of_prognosis.EVALUATE.published
    table = [list(map(str.strip, line.split("|")[1:-1])) for line in published.split("\n\n")[1].splitlines()]
    headings, _, *rows = table
    ours = [name for name in PLANS["prognosis"].variants if name.startswith(("perez", "outcome"))]
    assert [name for name, *_ in rows] == ours
    assert len(ours) == 7
    assert {len(row) for row in rows} == {len(headings)}
    assert headings[2:] == ["accuracy", "balanced accuracy", "specificity", "NPV", "precision", "recall", "F1"]
    assert rows[0][:3] == ["perez", "0.626 (0.09)", "0.569"]
    assert rows[-1][1:] == ["0.716 (0.05)", "0.672", "0.668", "0.657", "0.569", "0.777", "0.680", "0.712"]
    assert all("published, real data" in plan.evaluate.published for plan in PLANS.values())


def test_numbers_count_although_a_patient_lacks_one_and_that_it_is_lacking_counts_too() -> None:
    def auc_of(volumes_ml: list[float], truth: list[float]) -> float:
        batches = [alone(true, gcs=10, volume_ml=ml) for ml, true in zip(volumes_ml, truth, strict=True)]
        said = from_numbers(batches, truth)
        assert said is not None
        return auc(said, truth).value or 0.0

    truth = [0.0, 1.0] * 30
    volumes_ml = [30 * true + step / 10 for step, true in enumerate(truth)]
    assert auc_of([nan, *volumes_ml[1:]], truth) > 0.9
    assert auc_of([nan if true else 20.0 for true in truth], truth) > 0.9  # who died was never measured
    assert auc_of([5.0, *[nan] * 59], truth) == pytest.approx(0.5, abs=0.1)  # no fold fails for want of a median
    assert from_numbers([replace(alone(true), known_bn=torch.full((1, 6), nan)) for true in truth], truth) is None


def test_a_volume_is_measured_in_ml_and_death_by_its_risk() -> None:
    true_ml = 1.08
    answers = [
        volume_survival.Answers(
            torch.tensor([(2 * true_ml) ** (1 / 3)]), torch.tensor([[0.0, 2.0 * said - 1]]), torch.zeros(1, 1)
        )
        for said, _ in OUTCOMES
    ]
    batches = [alone(true, volume_ml=true_ml, masked=False) for _, true in OUTCOMES]
    system = VolumeSurvivalSystem()
    rows = of_volume_survival.rows({"it": contender(answers, system)}, batches, system)
    values = {name: figure.value for name, figure in rows["it"].items()}
    assert (values["MAE mL"], values["bias mL"], values["MAPE %"]) == pytest.approx((true_ml, true_ml, 100), rel=1e-4)
    assert values["MSE mL2"] == pytest.approx(true_ml**2, rel=1e-4)
    assert (values["accuracy"], values["sensitivity"], values["AUC"]) == pytest.approx((0.8, 0.8, 0.8))
    assert rows[of_volume_survival.MAJORITY]["MAE mL"].value == pytest.approx(0, abs=1e-6)
    assert rows[of_volume_survival.MAJORITY]["sensitivity"].value == 0
    assert rows[FROM_NUMBERS]["MAE mL"].value is None


class SaysTheMean(nn.Module):
    """As large as a head is dense on average, which every voxel speaks for as much as it is dense."""

    def __init__(self) -> None:
        super().__init__()
        self.explained_by = nn.Identity()

    def forward(self, hu_bcdhw: torch.Tensor) -> volume_survival.Answers:
        size_b = self.explained_by(hu_bcdhw).mean(dim=(1, 2, 3, 4))
        return volume_survival.Answers(size_b, torch.zeros(1, 2), torch.zeros(1, 1))


def test_how_much_of_a_volume_is_read_off_blood_is_measured_where_there_is_blood() -> None:
    bleeding, healthy = alone(1.0, volume_ml=1.0), alone(0.0)
    for batch, blood_hu in ((bleeding, 60.0), (healthy, 0.0)):
        batch.hu_bdhw.zero_()
        batch.labels_bdhw.zero_()
        batch.hu_bdhw[0, 0, 0, :2] = torch.tensor([20.0, blood_hu])
    bleeding.labels_bdhw[0, 0, 0, 1] = 1
    batches, system = [bleeding, healthy] * 5, VolumeSurvivalSystem()
    rows = of_volume_survival.rows({"it": Contender(network=SaysTheMean(), system=system)}, batches, system)
    share = rows["it"][of_volume_survival.IN_BLOOD]
    assert (share.value, share.patients) == (pytest.approx(0.75), 5)


class FindsBright:
    """A segmenter of what has 70 HU and more in the brain, and that sees whether there is a skull."""

    def predict(self, volume: Volume) -> Any:
        assert float(volume.hu[:, :, -1].min()) == SKULL_HU
        return SimpleNamespace(hematoma=(volume.hu >= 70) & (volume.hu < SKULL_HU))


SKULL_HU = 900.0


def in_a_skull(late: float) -> Patients:
    """A brain of 8 x 16 x 12 voxels with blood, which is 10 HU brighter everywhere on the next CT."""
    batch = alone(0)
    brain = torch.zeros((1, 8, 16, 16), dtype=torch.bool)
    brain[..., :12] = True
    labels = batch.labels_bdhw.repeat(1, 2, 2, 2) * brain
    hu = (30.0 + 35.0 * (labels > 0)).where(brain, SKULL_HU)
    batch = replace(
        batch, hu_bdhw=hu, labels_bdhw=labels, later_hu_bdhw=hu + 10, later_labels_bdhw=labels, brain_bdhw=brain
    )
    batch.became_bn[0, of_followup.LATE] = late
    return batch


def says_ct(ct: Tensor, logits: Tensor) -> followup.Prediction:
    return followup.Prediction(ct, logits, ct[:, 0], torch.zeros(1, 1))


def test_the_next_ct_is_measured_beside_a_copy_and_hemorrhage_by_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_followup, "_segmenter", lambda spacing_mm: FindsBright())
    batches, answers = [], []
    for said, true in OUTCOMES:
        batch = in_a_skull(true)
        better = (batch.hu_bdhw / 100 + 0.05).where(batch.brain_bdhw, 0)[:, None]
        answers.append(says_ct(better, torch.tensor([[0.0, 2.0 * said - 1]])))
        batches.append(batch)
    system = FollowupSystem()
    rows = of_followup.rows({"it": contender(answers, system)}, batches, system)
    found, copied = (
        {name: figure.value for name, figure in rows[contender].items()} for contender in ("it", of_followup.AS_IT_WAS)
    )
    for where in ("", " around blood"):  # what lies outside the brain is right in both, and does not count
        assert copied[f"PSNR{where}"] == pytest.approx(20, abs=1e-3)
        assert found[f"PSNR{where}"] == pytest.approx(20 + 10 * log10(4), abs=1e-3)  # half as far
        assert (copied[f"SSIM{where}"] or 0) < (found[f"SSIM{where}"] or 0) < 1
    voxels = int((batches[0].labels_bdhw > 0).sum())
    assert (found["segmented mL MAE"], copied["segmented mL MAE"]) == pytest.approx((0, voxels * 0.02))
    assert found["segmented mL r"] is None  # all alike
    assert (found["accuracy"], found["sensitivity"], found["specificity"]) == pytest.approx((0.8, 0.8, 0.8))
    assert (copied["sensitivity"], copied["specificity"]) == (0, 1)
    assert found["AUC growth, spontaneous"] is None  # all alike

    alone_spontaneous = contender(answers, system)
    manifest = alone_spontaneous.manifest.model_copy(update={"after_thrombectomy": None})
    row = of_followup.rows({"it": replace(alone_spontaneous, manifest=manifest)}, batches, system)["it"]
    assert (row["AUC after thrombectomy"].value, row["accuracy"].value) == (None, None)
    assert row["SSIM"].value is not None


def test_who_has_no_blood_at_first_has_no_shell_around_it_and_where_nobody_said_what_is_dense_counts() -> None:
    batch = in_a_skull(0)
    batch.labels_bdhw[:] = 0
    none = of_followup._shell(batch, seen_of(batch), (5.0, 2.0, 2.0))
    assert not none.any()
    batch.labels_bdhw[:] = UNKNOWN
    shell = of_followup._shell(batch, seen_of(batch), (5.0, 2.0, 2.0))
    dense = batch.hu_bdhw[0].numpy() > 50
    assert shell.any()
    assert not (shell & dense).any()


def test_the_blood_of_the_next_ct_is_that_which_one_segmenter_finds_in_it_and_in_the_true_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches, answers = [], []
    for number, (_, true) in enumerate(OUTCOMES):
        batch, bright = in_a_skull(true), torch.zeros((1, 8, 16, 16), dtype=torch.bool)
        bright[:, :, :4, : 2 + number % 5] = True
        batches.append(replace(batch, later_hu_bdhw=batch.hu_bdhw.where(~bright, 80.0)))
        bright[:, ::2] = False
        says = torch.full((1, 8, 16, 16), 0.3).where(~bright, 0.8).where(batch.brain_bdhw, 0)
        answers.append(says_ct(says[:, None], torch.zeros(1, 2)))
    system = FollowupSystem()
    for segmenter, all_ml in ((FindsBright(), [8 * 4 * (2 + n % 5) * 0.02 for n in range(10)]), (None, [])):
        monkeypatch.setattr(of_followup, "_segmenter", lambda spacing_mm, found=segmenter: found)
        row = of_followup.rows({"it": contender(list(answers), system)}, batches, system)["it"]
        assert row["PSNR"].value is not None
        if all_ml:
            assert row["segmented mL MAE"].value == pytest.approx(sum(all_ml) / 2 / 10)  # every other plane is missed
            assert row["segmented mL r"].value == pytest.approx(1)
        else:
            assert (row["segmented mL MAE"].value, row["segmented mL r"].value) == (None, None)


def test_the_shipped_segmenter_reads_the_voxels_of_the_shipped_network_and_no_coarse_ones() -> None:
    assert of_followup._segmenter(FollowupSystem().spacing_mm) is not None
    assert of_followup._segmenter((5.0, 4.0, 4.0)) is None


def test_what_an_ablation_does_not_learn_has_no_figure() -> None:
    one = torch.zeros(1)
    answers = prognosis.Answers(one, torch.zeros(1, 2), one, torch.zeros(1, 3), torch.zeros(1, 1))
    volume = volume_survival.Answers(one, torch.zeros(1, 2), torch.zeros(1, 1))
    batches = [alone(true, masked=False) for _, true in OUTCOMES]

    outcome_alone = PrognosisSystem(gcs=0, elderly=0)
    row = of_prognosis.rows({"it": contender([answers] * 10, outcome_alone)}, batches, outcome_alone)["it"]
    assert row["AUC"].value == 0.5
    assert [row[name].value for name in ("AUC GCS 8 or less", "GCS category right", "AUC 80 years")] == [None] * 3

    binary = PrognosisSystem(ordinal=False)
    row = of_prognosis.rows({"it": contender([answers] * 10, binary)}, batches, binary)["it"]
    assert row["GCS category right"].value is None

    for system, known, unknown in (
        (VolumeSurvivalSystem(survival=0), "MAE mL", "AUC"),
        (VolumeSurvivalSystem(volume=0), "AUC", "MAE mL"),
    ):
        row = of_volume_survival.rows({"it": contender([volume] * 10, system)}, batches, system)["it"]
        assert row[known].value is not None
        assert row[unknown].value is None


def test_a_checkpoint_is_believed_as_it_says_it_and_a_bundle_as_calibrated() -> None:
    network, system = Says([]), PrognosisSystem()
    manifest = manifest_of("prognosis").model_copy(update={"poor": Calibration(scale=1.0, shift=2.0, spread=0.1)})
    assert Contender(network=network, system=system).probability("poor", 0.0) == 0.5
    said = Contender(network=network, system=system, manifest=manifest).probability("poor", -2.0)
    assert said == pytest.approx(0.5)


def test_the_first_training_is_compared_with_the_others_over_the_same_patients() -> None:
    errors, truth = [abs(float(n % 7) - 3) for n in range(60)], [float(n % 2) for n in range(60)]
    row = {"MAE mL": mean(errors), "AUC": auc(truth, truth)}
    others = {
        "worse in each": mean([error + 0.1 for error in errors]),
        "better in each": mean([error - 0.1 for error in errors]),
        "better and worse": mean(errors[1:] + errors[:1]),
        "not the volume": mean([]),
        "of fewer patients": mean(errors[:-1]),
    }
    rows = {"both": row} | {name: row | {"MAE mL": found} for name, found in others.items()}
    worse, better, either, *unknown = compared(rows, list(rows), {"MAE mL": False, "AUC": True})
    alike = "AUC not shown to differ (+0.00 [0.00 to 0.00])"
    assert worse == f"both against worse in each: MAE mL better (-0.10 [-0.10 to -0.10]); {alike}"
    assert better == f"both against better in each: MAE mL worse (+0.10 [0.10 to 0.10]); {alike}"
    assert either.startswith("both against better and worse: MAE mL not shown to differ (")
    assert unknown == [f"both against not the volume: {alike}", f"both against of fewer patients: {alike}"]
    rows["neither"] = dict.fromkeys(row, mean([]))
    assert compared(rows, ["both", "neither"], {"AUC": True}) == ["both against neither: nothing in common"]


def test_what_was_compared_stands_below_its_table() -> None:
    rows = {"both": {"MAE mL": mean([1.0])}}
    found = Evaluation(title="1 patient", rows=rows, limits=(), published="nothing", compared=["both against one"])
    assert f"{COMPARED}\n\n- both against one\n" in found.markdown()
    assert COMPARED not in replace(found, compared=()).markdown()


def test_what_can_be_drawn_is_drawn_and_stands_below_its_section(tmp_path: Path) -> None:
    pairs = tuple((0.1 * n, float(n > 4)) for n in range(10))
    volumes = tuple((float(n), n + 1.0) for n in range(10))
    rows = {
        "one": {"AUC": auc(*map(list, zip(*pairs, strict=True))), "MAE mL": mean([1.0], volumes), "Brier": mean([0.1])},
        "other": {"AUC": mean([]), "MAE mL": mean([]), "Brier": mean([])},
    }
    found = Evaluation(title="10 patients", rows=rows, limits=(), published="nothing")
    page = tmp_path / "page.md"
    picture = picture_of(page, "volume survival")
    assert write_picture(found, picture)
    write_section(page, "volume survival", found.markdown(), picture)
    assert "![volume survival](pictures/page-volume-survival.png)" in page.read_text()
    width, height = Image.open(picture).size
    assert 1.5 < width / height < 2.5  # two panels
    nothing = replace(found, rows={"other": rows["other"]})
    assert not write_picture(nothing, tmp_path / "none.png")


def test_a_section_replaces_the_one_of_its_name_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.md"
    write_section(file, "prognosis", "first")
    write_section(file, "expansion", "second")
    write_section(file, "prognosis", "third")
    text = file.read_text()
    assert text.startswith("# Evaluation")
    assert "first" not in text
    assert text.index("## expansion\n\nsecond\n") < text.index("## prognosis\n\nthird\n")
    assert text.count("SIMULATED PATIENTS - RESEARCH USE ONLY") == 1
