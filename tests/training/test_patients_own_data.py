"""A hospital's own patients: pairs on one grid, what is known and became of them, and folds without anybody twice."""

import shutil
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from tests.training.data_factory import phantom_row, write_nifti
from tests.training.test_patients_command import small
from training.data.manifest import DataError, Outcome, Row, write_manifest
from training.fit.checkpoint import LAST, read
from training.fit.mixed import MixedSource
from training.fit.recipe import Recipe
from training.fit.recipes import RECIPES, RecipeName, cpu
from training.fit.source import batches
from training.followup.system import seen_of
from training.patients.batch import BECAME, KNOWN, Patients
from training.patients.command import export_of, fit_on_patients
from training.patients.evaluate_command import evaluate_of
from training.patients.folds import in_folds
from training.patients.likeness import AlikeIn
from training.patients.own_data import OwnPatient, OwnPatients, outcome_of, own_patients, truth_of
from training.patients.plans import PLANS
from training.patients.recipes import ours
from training.simulate.planes import around_origin
from training.volume_survival.system import VolumeSurvivalSystem

GRID = around_origin((32, 64, 48), (5.0, 4.0, 4.0))
VOXEL_ML = 5 * 4 * 4 / 1000
KNOWN_OF_FIRST = {"age": 77, "gcs": 9, "onset_hours": 2.5, "systolic_mmhg": 180, "anticoagulant": True}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """A patient of 20 and then 40 mL, one of 30 mL with no follow-up, one of 25 mL without a mask."""
    folder = tmp_path_factory.mktemp("own")
    poor = Outcome(type="mrs_90d", value=5)
    died = Outcome(type="death_30d", value=1)
    first = phantom_row(folder / "a", 20.0, patient="A", study="A1", outcome=poor, **KNOWN_OF_FIRST)
    later = phantom_row(folder / "b", 40.0, patient="A", study="A2", paired_with="A1", t_hours=24)
    alone = phantom_row(folder / "c", 30.0, patient="B", study="B1", outcome=died)
    unmasked = phantom_row(folder / "d", 25.0, patient="C", study="C1", volume_ml=25.0, types=("IPH",))
    return [first, later, alone, unmasked.model_copy(update={"mask": None, "label_map": None})]


def one(rows: list[Row], *, followup: bool = False, place: int = 0, **changes: object) -> Patients:
    found = own_patients(rows, "train", followup=followup, masks=False)
    source = OwnPatients(patients=found, grid=GRID, as_they_are=True)
    return replace(source, **changes).batch(place)  # type: ignore[arg-type]


def named(names: tuple[str, ...], values: torch.Tensor) -> dict[str, float]:
    return dict(zip(names, values[0].tolist(), strict=True))


def test_a_pair_lies_on_one_grid_and_says_how_much_grew(rows: list[Row]) -> None:
    batch = one(rows, followup=True)
    first, later = (float((labels == 1).sum()) * VOXEL_ML for labels in (batch.labels_bdhw, batch.later_labels_bdhw))
    assert batch.hu_bdhw.shape == batch.later_labels_bdhw.shape == (1, *GRID.shape)
    assert (first, later) == pytest.approx((20, 40), rel=0.2)
    bone, later_bone = batch.hu_bdhw > 300, batch.later_hu_bdhw > 300
    assert 2 * (bone & later_bone).sum() / (bone.sum() + later_bone.sum()) > 0.9

    known, became = named(KNOWN, batch.known_bn), named(BECAME, batch.became_bn)
    assert known == pytest.approx(
        {"onset_to_ct_h": 2.5, "baseline_ml": first, "anticoagulant": 1, "systolic_mmhg": 180, "age": 77, "gcs": 9}
    )
    assert (became["conventional expansion"], became["3 mL expansion"], became["poor after 90 days"]) == (1, 1, 1)
    assert isnan(became["death in 30 days"])
    assert isnan(became["late hemorrhage"])


def test_without_a_mask_the_volume_is_the_one_that_was_read_and_blood_is_where_it_is_dense(rows: list[Row]) -> None:
    batch = one(rows, place=2)
    assert named(KNOWN, batch.known_bn)["baseline_ml"] == 25
    assert bool((batch.labels_bdhw == 255).any())
    assert batch.volume_ml("IPH", spacing_mm=GRID.spacing_mm).isnan().all()
    assert float(seen_of(batch).blood_bcdhw.sum()) * VOXEL_ML > 15


@pytest.mark.parametrize(
    ("outcome", "died", "poor"),
    [
        (None, None, None),
        (Outcome(type="death_30d", value=0), 0, None),
        (Outcome(type="poor_prognosis", value=1), None, 1),
        (Outcome(type="mrs_90d", value=3), None, 0),
        (Outcome(type="mrs_90d", value=6), None, 1),
    ],
)
def test_outcomes_say_what_they_say_and_no_more(
    rows: list[Row], outcome: Outcome | None, died: float | None, poor: float | None
) -> None:
    patient = OwnPatient(first=rows[0].model_copy(update={"outcome": outcome}), later=None)
    _, became = truth_of(patient, torch.zeros(1), torch.zeros(1), VOXEL_ML)
    assert [None if isnan(value) else value for value in became[2:4]] == [died, poor]


def test_after_thrombectomy_it_is_hemorrhage_that_counts_and_not_growth(rows: list[Row]) -> None:
    first = rows[0].model_copy(update={"thrombectomy": True})
    for later, bleeds in (
        (rows[1], 1.0),
        (rows[1].model_copy(update={"types": ()}), 0.0),
        (rows[1].model_copy(update={"types": ("SAH",)}), 1.0),
    ):
        labels = torch.ones(2, dtype=torch.uint8)
        _, became = truth_of(OwnPatient(first=first, later=later), labels, labels, VOXEL_ML)
        assert isnan(became[0])
        assert became[-1] == bleeds


def test_hemorrhage_of_unknown_type_is_parenchymal(rows: list[Row]) -> None:
    unknown = [rows[0].model_copy(update={"label_map": {1: "any"}})]
    assert torch.equal(one(unknown).labels_bdhw, one(rows).labels_bdhw)


def test_a_system_gets_the_patients_that_it_can_learn_from(rows: list[Row]) -> None:
    def patients_of(**needed: bool) -> list[str]:
        return [each.first.patient for each in own_patients(rows, "train", **needed)]

    assert patients_of(followup=False, masks=False) == ["A", "B", "C"]
    assert patients_of(followup=False, masks=True) == ["A", "B"]
    assert patients_of(followup=True, masks=True) == ["A"]
    with pytest.raises(
        DataError, match="test has no patient that has a first CT with a follow-up in 72 hours and masks"
    ):
        PLANS["expansion"].own_patients(rows, "test")


def test_a_follow_up_counts_where_it_is_known_to_be_of_the_next_days(rows: list[Row]) -> None:
    for hours, counts in ((24.0, True), (72.0, True), (73.0, False), (0.0, False), (None, False)):
        pair = [rows[0], rows[1].model_copy(update={"t_hours": hours})]
        assert bool(own_patients(pair, "train", followup=True, masks=True)) == counts


def test_a_volume_that_was_read_counts_where_all_of_it_is_parenchymal(rows: list[Row]) -> None:
    mixed = [rows[3].model_copy(update={"types": ("IPH", "IVH")})]
    assert isnan(named(KNOWN, one(mixed).known_bn)["baseline_ml"])


def test_the_expansion_model_is_measured_on_what_the_node_knows_and_refuses_unknown_masks(rows: list[Row]) -> None:
    plan = PLANS["expansion"]
    batch = plan.own(plan.own_patients(rows, "train"), as_they_are=True, tell=print).batch(0)
    told = named(KNOWN, batch.known_bn)
    assert [name for name, value in told.items() if not isnan(value)] == ["baseline_ml", "age"]
    vague = [rows[0].model_copy(update={"label_map": {1: "unknown"}}), rows[1]]
    with pytest.raises(DataError, match=r"A1 and .*A2: a part of a mask is unknown"):
        plan.own(plan.own_patients(vague, "train"), as_they_are=True, tell=print)


def test_a_pair_that_cannot_be_aligned_is_left_out_by_name_and_the_others_stay(rows: list[Row], tmp_path: Path) -> None:
    no_head = write_nifti(tmp_path / "air.nii.gz", np.full((40, 40, 40), -1000, np.int16))
    air = {"ct": no_head, "mask": None, "label_map": None}
    pairs = [
        OwnPatient(first=rows[0], later=rows[1].model_copy(update=air | {"study": "A3"})),
        OwnPatient(first=rows[0], later=rows[1]),
        OwnPatient(first=rows[2], later=None),
    ]
    told: list[str] = []
    source = OwnPatients(patients=pairs, grid=GRID, as_they_are=True).aligned(told.append)
    assert told == ["left out: tests/A1 and tests/A3: no head: a skull with brain inside was not found"]
    assert [each.first.study for each in source.patients] == ["A1", "B1"]
    grown, alone = (named(BECAME, source.batch(number).became_bn) for number in range(2))
    assert (grown["conventional expansion"], alone["death in 30 days"]) == (1, 1)

    with pytest.raises(DataError, match="1 of 1 own patients cannot be aligned: tests/A1 and tests/A3: no head"):
        OwnPatients(patients=pairs[:1], grid=GRID).aligned(told.append)
    gone = OwnPatient(first=rows[0], later=rows[1].model_copy(update={"ct": tmp_path / "nowhere"}))
    with pytest.raises(DataError, match="A1 and tests/A2"):  # is nothing to be passed over
        OwnPatients(patients=[gone, *pairs[1:]], grid=GRID).aligned(told.append)


def test_who_makes_batches_gets_the_pairs_as_they_were_aligned(rows: list[Row], tmp_path: Path) -> None:
    later = rows[1].model_copy(update={"ct": tmp_path / "gone"})
    shutil.copytree(rows[1].ct, later.ct)
    source = OwnPatients(patients=[OwnPatient(first=rows[0], later=later)], grid=GRID).aligned(print)
    here = source.batch(0)
    shutil.rmtree(later.ct)
    with batches(source, range(1), makers=1, ahead=1) as made:
        assert torch.equal(next(made).later_hu_bdhw, here.later_hu_bdhw)


def test_fit_and_evaluate_say_who_is_left_out(rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.patients.command.train", lambda *_, **__: False)
    no_head = write_nifti(tmp_path / "air.nii.gz", np.full((40, 40, 40), -1000, np.int16))
    air = {"ct": no_head, "mask": None, "label_map": None, "types": ()}
    every: list[Row] = []
    for split in ("train", "validation", "test"):
        for study, later in (("1", {}), ("2", air)):
            of_one = {"patient": split, "split": split}
            every.append(rows[0].model_copy(update=of_one | {"study": f"{split}{study}"}))
            paired = {"study": f"{split}{study} later", "paired_with": f"{split}{study}"}
            every.append(rows[1].model_copy(update=of_one | paired | later))
    write_manifest(every, tmp_path / "manifest.jsonl")
    app = typer.Typer()
    app.command("fit")(fit_on_patients(small("followup")))
    app.command("evaluate")(evaluate_of("followup", small("followup")))
    data = ["--data", str(tmp_path / "manifest.jsonl")]
    for line, left_out in (
        (["fit", "--out", str(tmp_path / "run")], ("train2", "validation2")),
        (["evaluate"], ("test2",)),
    ):
        outcome = CliRunner().invoke(app, [*line, *data], env={"COLUMNS": "200"})
        assert outcome.exit_code == 0, outcome.output
        told = [told for told in outcome.output.splitlines() if told.startswith("left out: ")]
        assert [told.split("/")[1].split()[0] for told in told] == list(left_out)


def test_in_training_both_cts_move_alike_and_the_first_is_noisier(rows: list[Row]) -> None:
    source = replace(
        OwnPatients(patients=own_patients(rows, "train", followup=False, masks=False)[:1], grid=GRID), stripped=True
    )
    still, moved = replace(source, as_they_are=True).batch(0), source.batch(1)
    assert not torch.equal(moved.labels_bdhw, still.labels_bdhw)
    assert torch.equal(moved.labels_bdhw, moved.later_labels_bdhw)
    assert float((moved.hu_bdhw - moved.later_hu_bdhw).abs().max()) > 0
    assert torch.equal(moved.hu_bdhw == 0, moved.later_hu_bdhw == 0)  # nothing appears outside the brain
    assert float((moved.labels_bdhw == 1).sum()) == pytest.approx(float((still.labels_bdhw == 1).sum()), rel=0.15)


def test_the_brain_moves_with_the_head(rows: list[Row]) -> None:
    source = OwnPatients(
        patients=own_patients(rows, "train", followup=False, masks=False)[:1], grid=GRID, finds_brain=True
    )
    still, moved = replace(source, as_they_are=True).batch(0), source.batch(1)
    assert not torch.equal(moved.brain_bdhw, still.brain_bdhw)
    for batch in (still, moved):
        inside, outside = (batch.hu_bdhw[mask] for mask in (batch.brain_bdhw, ~batch.brain_bdhw))
        assert float((inside > 100).float().mean()) < 0.02 < float((outside > 100).float().mean())


def test_a_row_that_cannot_be_read_is_named(rows: list[Row]) -> None:
    gone = rows[0].model_copy(update={"ct": Path("/nowhere")})
    with pytest.raises(DataError, match="A1"):
        one([gone])


def test_in_folds_everybody_is_tested_once_and_outcomes_are_alike(rows: list[Row]) -> None:
    many = [
        rows[0].model_copy(
            update={"patient": f"P{n}", "study": f"S{n}", "outcome": Outcome(type="death_30d", value=n % 2)}
        )
        for n in range(20)
    ]
    many.append(rows[1].model_copy(update={"patient": "P3", "paired_with": "S3"}))
    tested = []
    for fold in range(5):
        split = in_folds(many, 5, fold, "death and volume")
        test = {row.patient: row.outcome for row in split if row.split == "test" and row.outcome}
        assert len(test) == 4
        assert sum(outcome.value for outcome in test.values()) == 2
        assert {row.split for row in split if row.patient == "P3"} == {split[3].split}
        tested += list(test)
    assert sorted(tested) == sorted({row.patient for row in many})
    with pytest.raises(DataError, match="20 patients make no 30 folds"):
        in_folds(many, 30, 0, "prognosis")
    with pytest.raises(DataError, match="the last is 4, not 5"):
        in_folds(many, 5, 5, "prognosis")


def manifest_row(number: int, **known: object) -> Row:
    name = f"P{number:03}"
    fields = {"patient": name, "study": name, "ct": "ct.nii.gz", "source": "here", "licence": "own", "split": "train"}
    return Row.model_validate(fields | known)


def patients_tested(rows: list[Row], folds: int, alike_in: AlikeIn) -> list[list[int]]:
    """The numbers of the patients that each fold tests."""
    return [
        sorted({int(row.patient[1:]) for row in in_folds(rows, folds, fold, alike_in) if row.split == "test"})
        for fold in range(folds)
    ]


def test_folds_of_system_b_are_alike_in_prognosis_however_it_was_scored() -> None:
    outcomes = [("mrs_90d", n % 7) for n in range(70)] + [("poor_prognosis", n % 2) for n in range(20)]
    outcomes += [("death_30d", 1)] * 10  # says nothing of 90 days
    rows = [manifest_row(n, outcome={"type": type_, "value": value}) for n, (type_, value) in enumerate(outcomes)]
    for tested in patients_tested(rows, 10, "prognosis"):
        poor = [outcome_of(rows[n])[1] for n in tested]
        assert (poor.count(1.0), poor.count(0.0), len(poor)) == (4, 5, 10)


def test_folds_of_system_c_are_alike_in_death_and_in_thirds_of_the_volume() -> None:
    rows = [manifest_row(n, volume_ml=n, outcome={"type": "death_30d", "value": n % 3 == 0}) for n in range(90)]
    rows.append(manifest_row(3, study="later", paired_with="P003", volume_ml=500))  # the first CT counts
    for tested in patients_tested(rows, 5, "death and volume"):
        assert sum(n % 3 == 0 for n in tested) == 6
        assert [sum(n // 30 == third for n in tested) for third in range(3)] == [6, 6, 6]
        assert [sum(n // 30 == third and n % 3 == 0 for n in tested) for third in range(3)] == [2, 2, 2]


def test_the_rare_keep_the_kind_that_says_most() -> None:
    """Ten deaths, three of them of small hematomas: two in each of five folds."""
    volumes_ml = [*range(10, 40), *range(1, 4), *range(100, 107)]
    rows = [
        manifest_row(n, volume_ml=ml, outcome={"type": "death_30d", "value": n >= 30})
        for n, ml in enumerate(volumes_ml)
    ]
    assert [sum(n >= 30 for n in tested) for tested in patients_tested(rows, 5, "death and volume")] == [2] * 5
    alone = [manifest_row(n) for n in range(10)] + [manifest_row(10, outcome={"type": "mrs_90d", "value": 6})]
    assert sum(map(len, patients_tested(alone, 5, "prognosis"))) == 11


def test_folds_of_systems_a_and_d_are_alike_in_hemorrhage() -> None:
    rows = []
    for n in range(60):
        treated, bleeds, has_followup = n < 30, n % 3 == 0, n % 10 != 9
        rows.append(manifest_row(n, thrombectomy=treated, volume_ml=0 if treated else 20))
        if has_followup:
            later_ml = (20 if treated else 40) if bleeds else (0 if treated else 21)
            known = {"types": ["IPH"] if later_ml else [], "volume_ml": later_ml, "thrombectomy": treated}
            rows.append(manifest_row(n, study=f"later {n}", paired_with=f"P{n:03}", t_hours=24, **known))
    for tested in patients_tested(rows, 3, "hemorrhage"):
        for of_use in (range(30), range(30, 60)):
            followed = [n for n in tested if n in of_use and n % 10 != 9]
            assert len(followed) == 9
            assert sum(n % 3 == 0 for n in followed) == 3
    assert [PLANS[name].alike_in for name in ("followup", "prognosis", "volume-survival", "expansion")] == [
        *("hemorrhage", "prognosis", "death and volume", "hemorrhage")
    ]


def test_a_system_trains_on_own_patients_in_folds_and_is_measured_on_those_it_did_not_see(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    write_manifest([row for row in rows if row.paired_with is None], tmp_path / "manifest.jsonl")
    plan, app = replace(small("volume-survival"), recipe=ours(1e-3)), typer.Typer()
    app.command("fit")(fit_on_patients(plan))
    app.command("evaluate")(evaluate_of("volume-survival", plan))
    app.command("export")(export_of(plan))
    data, quick = ["--data", str(tmp_path / "manifest.jsonl"), "--folds", "3"], ["--steps", "1", "--no-bundle"]
    for fold in range(3):
        line = ["fit", "--out", str(tmp_path / f"run/fold-{fold}"), *quick, "--share", "1", *data]
        outcome = CliRunner().invoke(app, [*line, "--fold", str(fold)])
        assert outcome.exit_code == 0, outcome.output
        assert "own patients: 1 to train on, 1 to validate with" in outcome.output
    outcome = CliRunner().invoke(app, [*line, "--fold", "1"])  # into the folder of fold 2
    assert outcome.exit_code == 2
    assert "learned from other own patients: fold 2, not 1" in outcome.output
    assert "own data" in read(tmp_path / "run/fold-0" / LAST, VolumeSurvivalSystem)["styles"]
    page = tmp_path / "own.md"
    outcome = CliRunner().invoke(app, ["evaluate", "--run", f"mine={tmp_path / 'run'}", *data, "--out", str(page)])
    assert outcome.exit_code == 0, outcome.output
    text = page.read_text()
    assert "## volume-survival on manifest.jsonl" in text
    assert "mine, mean of 3 folds [lowest-highest]" in text
    assert "mine, fold 2" in text
    assert "What can be known at all" not in text  # nobody knows that of real patients

    stored = torch.load(tmp_path / "run/fold-1" / LAST, weights_only=True)
    del stored["recipe"]["own"]["alike_in"]  # of a training from before folds were drawn by what a system answers
    torch.save(stored, tmp_path / "run/fold-1" / LAST)
    checkpoint, card = str(tmp_path / "run/fold-1" / LAST), str(page)
    told = ["--version", "1", "--card", card, "--trained-on", "ours"]
    for line in (
        ["evaluate", "--run", str(tmp_path / "run")],
        ["fit", "--out", str(tmp_path / "run/fold-1"), "--fold", "1"],
        ["export", checkpoint, "--out", str(tmp_path / "bundle"), *told, "--fold", "1"],
    ):
        outcome = CliRunner().invoke(app, [*line, *data])
        assert outcome.exit_code == 2
        assert "alike_in None, not death and volume" in " ".join(outcome.output.split())


@pytest.mark.parametrize(
    ("whose", "said"), [(2, " (simulated patients)"), (1, " (real and simulated patients)"), (0, "")]
)
def test_a_manifest_of_simulated_patients_is_said_to_be_one(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: int, said: str
) -> None:
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    first = [row.model_copy(update={"split": "test"}) for row in rows if row.paired_with is None]
    invented = [row.model_copy(update={"source": "simulated/training"}) for row in first[:whose]]
    write_manifest([*invented, *first[whose:2]], tmp_path / "manifest.jsonl")
    plan, app = replace(small("volume-survival"), recipe=ours(1e-3)), typer.Typer()
    app.command("fit")(fit_on_patients(plan))
    app.command("evaluate")(evaluate_of("volume-survival", plan))
    run, page = tmp_path / "run", tmp_path / "page.md"
    for line in (
        ["fit", "--out", str(run), "--steps", "1", "--no-bundle"],
        ["evaluate", "--run", str(run), "--data", str(tmp_path / "manifest.jsonl"), "--out", str(page)],
    ):
        outcome = CliRunner().invoke(app, line)
        assert outcome.exit_code == 0, outcome.output
    assert (said.strip(" ()").upper() or "RESEARCH USE ONLY") in outcome.output
    assert ("SIMULATED" in outcome.output) == bool(said)
    assert f"manifest.jsonl{said}, split test." in page.read_text()


def test_processes_that_torchrun_starts_share_own_and_simulated_patients(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = []

    def train(recipe: Recipe, source: MixedSource[Patients], *_: object, **__: object) -> bool:
        sources.append(source)
        return False

    monkeypatch.setitem(RECIPES, RecipeName.DDP, lambda system: replace(cpu(system), backend="gloo"))
    monkeypatch.setattr("training.patients.command.train", train)
    split = [rows[0], rows[2].model_copy(update={"split": "validation"})]
    write_manifest(split, tmp_path / "manifest.jsonl")
    app = typer.Typer()
    app.command()(fit_on_patients(small("volume-survival")))
    line = ["--out", str(tmp_path / "run"), "--data", str(tmp_path / "manifest.jsonl")]
    for recipe in ("ddp", "cpu"):
        outcome = CliRunner().invoke(app, [*line, "--recipe", recipe], env={"WORLD_SIZE": "2"})
        assert outcome.exit_code == 0, outcome.output
    assert [source.processes for source in sources] == [2, 1]


def test_a_manifest_without_such_patients_is_told(rows: list[Row], tmp_path: Path) -> None:
    write_manifest([rows[2]], tmp_path / "manifest.jsonl")
    plan, app = small("volume-survival"), typer.Typer()
    app.command("fit")(fit_on_patients(plan))
    app.command("evaluate")(evaluate_of("volume-survival", plan))
    data = ["--data", str(tmp_path / "manifest.jsonl")]
    for line in (["fit", "--out", str(tmp_path), *data], ["evaluate", *data]):
        outcome = CliRunner().invoke(app, line)
        assert outcome.exit_code == 2
        assert "has no patient that has a first CT" in outcome.output
