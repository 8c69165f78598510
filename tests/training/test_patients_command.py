"""Each of the published systems trains on simulated patients with one command, and goes on."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from ichnode.inference.bundle import load_bundle, shipped_bundles, verify_bundle
from ichnode.inference.manifest import Manifest
from models import prognosis, volume_survival
from models.blocks import ALL_AXES, IN_PLANE, Stage
from models.expansion import DenseExpansionConfig
from models.followup import FollowupConfig
from models.perez import PerezConfig
from training.expansion.system import ExpansionSystem
from training.fit.checkpoint import LAST, begin, read, system_of
from training.fit.recipe import Recipe
from training.fit.recipes import RECIPES, RecipeName, cpu
from training.fit.system import System
from training.followup.system import FollowupSystem
from training.patients import recipes
from training.patients.command import fit_on_patients
from training.patients.evaluate_command import evaluate_of
from training.patients.plan import Plan
from training.patients.plans import PLANS
from training.prognosis.system import PrognosisSystem
from training.volume_survival.system import VolumeSurvivalSystem

SHAPE, SPACING_MM = (32, 64, 48), (5.0, 4.0, 4.0)
STAGES = (
    Stage(width=4, stride=(1, 1, 1), kernel=IN_PLANE, units=1),
    Stage(width=8, stride=(2, 4, 4), kernel=ALL_AXES, units=1),  # 8 at once: oneDNN writes beyond its memory in bf16
    Stage(width=8, stride=(2, 2, 2), kernel=ALL_AXES, units=1),
)
SMALL: dict[str, System] = {
    "followup": FollowupSystem(
        config=FollowupConfig(shape=SHAPE, stages=STAGES, heads=2, density_blocks=1, interactive_blocks=1, pools=True),
        spacing_mm=SPACING_MM,
    ),
    "expansion": ExpansionSystem(config=DenseExpansionConfig(stages=STAGES), shape=SHAPE, spacing_mm=SPACING_MM),
    "prognosis": PrognosisSystem(
        config=replace(prognosis.COMPACT, shape=SHAPE, features=8, growth=4, blocks=(1, 1, 1, 1)), spacing_mm=SPACING_MM
    ),
    "volume-survival": VolumeSurvivalSystem(
        config=replace(volume_survival.COMPACT, shape=SHAPE, blocks=(1, 1, 1, 1), widths=(4, 8, 8, 8)),
        spacing_mm=SPACING_MM,
    ),
}
PEREZ = PrognosisSystem(
    config=PerezConfig(shape=SHAPE, widths=(2, 4, 4, 8)), spacing_mm=SPACING_MM, poor=1.0, gcs=0, elderly=0, taught=0
)


def small(name: str) -> Plan:
    def of_two(machine: Recipe) -> Recipe:
        usual = PLANS[name].recipe(machine)
        return replace(usual, batch=min(2, usual.batch))

    return replace(PLANS[name], system=SMALL[name], recipe=of_two, begins_from=None, validation_patients=2)


@pytest.mark.parametrize("name", PLANS)
def test_a_system_trains_and_goes_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(system: System) -> Recipe:
        return replace(cpu(system), makers=0, threads=1)

    monkeypatch.setitem(RECIPES, RecipeName.CPU, tiny)
    app = typer.Typer()
    app.command()(fit_on_patients(small(name)))
    for steps in (1, 2):
        outcome = CliRunner().invoke(app, ["--out", str(tmp_path), "--steps", str(steps), "--no-bundle"])
        assert outcome.exit_code == 0, outcome.output
    stored = read(tmp_path / LAST, type(SMALL[name]))
    assert stored["step"] == 2
    assert "other skull" in stored["styles"]
    assert "other scanner" not in stored["styles"]  # pairs have no such scanner
    assert 0 <= stored["best"] <= 1
    assert stored["recipe"]["learning_rate"] == PLANS[name].recipe(cpu(SMALL[name])).learning_rate
    assert stored["recipe"]["system"]["spacing_mm"] == SPACING_MM


PAPERS = {  # batches of a step, of a process; D has five patches of each head
    "followup": ("AdamW", 2e-4, 1e-2, "cosine", 4, 1),
    "prognosis": ("AMSGrad", 1e-3, 1e-4, "plateau", 8, 3),
    "volume-survival": ("SGD", 1e-4, 5e-4, "line", 8, 1),
    "expansion": ("Adam", 1e-4, 0.0, "line", 2, 1),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_papers_network_is_trained_as_the_paper_says_on_every_machine(name: str) -> None:
    paper = PLANS[name].variants["paper"]
    for machine in RECIPES.values():
        recipe = paper.recipe(machine(paper.system))
        of_batches = recipe.batch, recipe.accumulated
        how = recipe.optimizer, recipe.learning_rate, recipe.weight_decay, recipe.schedule, *of_batches
        assert how == PAPERS[name]


def test_a_paper_trains_goes_on_and_another_optimizer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    plan = replace(small("prognosis"), score=PLANS["prognosis"].variants["paper"].score)
    paper = replace(plan, recipe=lambda machine: replace(recipes.prognosis(machine), batch=2))
    plan, app = replace(plan, variants={"paper": paper}), typer.Typer()
    app.command()(fit_on_patients(plan))
    line = ["--out", str(tmp_path), "--patients", "2", "--variant", "paper", "--learning-rate", "0.002"]
    for steps in (1, 2):
        outcome = CliRunner().invoke(app, [*line, "--steps", str(steps), "--no-bundle"])
        assert outcome.exit_code == 0, outcome.output
    stored = read(tmp_path / LAST, PrognosisSystem)
    assert (stored["step"], stored["recipe"]["learning_rate"]) == (2, 0.002)  # what is asked for wins
    assert stored["plateau"]["lowest"] < 10
    outcome = CliRunner().invoke(app, ["--out", str(tmp_path), "--steps", "3"])
    assert outcome.exit_code == 2
    assert "is of a training by AMSGrad, not by scaled AdamW" in outcome.output


def test_two_systems_train_on_one_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    kept = tmp_path / "kept"
    for name in ("prognosis", "volume-survival"):
        app = typer.Typer()
        app.command()(fit_on_patients(small(name)))
        arguments = ["--out", str(tmp_path / name), "--steps", "2", "--patients", "3", "--keep-in", str(kept)]
        outcome = CliRunner().invoke(app, [*arguments, "--no-bundle"])
        assert outcome.exit_code == 0, outcome.output
        assert len(list(kept.rglob("*.npz"))) == 3


@pytest.mark.parametrize("asked", [[], ["--bundle", "mine/better"]])
def test_a_training_ends_with_a_bundle(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.patients.calibration._platt", lambda logits, truth: (1.0, 0.0))  # untrained
    monkeypatch.setattr("training.patients.command._MEASURED_ON", 20)
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    app = typer.Typer()
    app.command()(fit_on_patients(small("volume-survival")))
    outcome = CliRunner().invoke(app, ["--out", "run", "--steps", "1", *asked])
    assert outcome.exit_code == 0, outcome.output
    folder = Path(asked[-1] if asked else "run/volume-survival")
    manifest = verify_bundle(folder)
    assert (manifest.name, manifest.version, manifest.trained_on) == (folder.name, "0.1", "simulated patients")
    assert "RESEARCH USE ONLY" in (folder / "CARD.md").read_text()


@pytest.mark.parametrize(("asked", "exit_code"), [([], 0), (["--bundle", "mine"], 2)])
def test_a_training_that_tells_nobody_apart_has_come_to_its_end_all_the_same(
    asked: list[str], exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("it does not tell patients apart")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.patients.command.export", fails)
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    app = typer.Typer()
    app.command()(fit_on_patients(small("volume-survival")))
    outcome = CliRunner().invoke(app, ["--out", "run", "--steps", "1", *asked])
    assert outcome.exit_code == exit_code
    assert "it does not tell patients apart" in outcome.output
    assert read(Path("run") / LAST, VolumeSurvivalSystem)["step"] == 1


def test_an_ablation_becomes_no_bundle_and_options_that_do_nothing_are_refused(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(fit_on_patients(PLANS["volume-survival"]))
    for more, named in (
        (["--variant", "volume-alone", "--bundle", str(tmp_path / "b")], "no pipeline runs this variant"),
        (["--bundle", str(tmp_path / "b"), "--no-bundle"], "and --no-bundle"),
        (["--folds", "5"], "needs --data"),
        (["--keep-in", str(tmp_path)], "needs --patients"),
    ):
        outcome = CliRunner().invoke(app, ["--out", str(tmp_path / "run"), *more])
        assert outcome.exit_code == 2
        assert named in outcome.output
    whole = [name for name, plan in PLANS["prognosis"].variants.items() if plan.system.is_whole]
    assert whole == [
        *("paper", "outcome-gcs-age", "keeps-bone", "improved"),
        *("coarse", "coarse-outcome-gcs-age", "coarse-keeps-bone"),
    ]


def test_every_row_of_an_ablation_is_there_on_the_same_coarse_voxels() -> None:
    for plan in PLANS.values():
        coarse = {name: each for name, each in plan.variants.items() if name.startswith("coarse")}
        rows = [name for name, each in plan.variants.items() if each.system.grid == plan.system.grid]
        assert list(coarse) == ["coarse", *(f"coarse-{name}" for name in rows)]
        grids = {(each.system.shape, each.system.spacing_mm) for each in coarse.values()}
        assert grids == {((32, 64, 48), (5.0, 4.0, 4.0))}


def test_what_was_improved_is_trained_at_the_papers_size_and_as_what_ships() -> None:
    for name, config, more in (
        ("prognosis", prognosis.IMPROVED, {"sight": "improved", "stripped": False}),
        ("volume-survival", volume_survival.IMPROVED, {"says_ml": True}),
    ):
        plan, paper = PLANS[name], PLANS[name].variants["paper"].system
        improved = replace(plan, variants={}, system=plan.variants["improved"].system)
        assert improved == plan.variants["improved"]
        assert (improved.system.config, improved.system.spacing_mm) == (config, (5.0, 1.0, 1.0))
        assert improved.system.config == replace(paper.config, shape=config.shape, **more)


def test_the_row_of_one_choice_differs_from_what_ships_in_it_alone() -> None:
    for name, row, other in (
        ("prognosis", "keeps-bone", {"sight": "improved"}),
        ("volume-survival", "says-size", {"says_ml": False}),
    ):
        shipped = PLANS[name].system
        there = replace(shipped, config=replace(shipped.config, **other))  # type: ignore[type-var]
        assert PLANS[name].variants[row].system == there != shipped


def test_the_follow_up_begins_from_the_shipped_segmenter_whatever_lies_beside_and_its_bundle_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.patients.calibration._platt", lambda logits, truth: (1.0, 0.0))  # untrained
    monkeypatch.setattr("training.patients.command._MEASURED_ON", 20)
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    (tmp_path / "hematoma").mkdir()
    (tmp_path / "hematoma" / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    plan = small("followup")
    config = replace(PLANS["followup"].system.config, shape=SHAPE)
    system = replace(PLANS["followup"].system, config=config, spacing_mm=SPACING_MM)  # type: ignore[type-var]
    app = typer.Typer()
    app.command()(fit_on_patients(replace(plan, system=system, begins_from="hematoma")))
    for line in (["--out", "run", "--steps", "1", "--no-bundle"], ["--out", "run", "--steps", "2", "--bundle", "mine"]):
        outcome = CliRunner().invoke(app, line)
        assert outcome.exit_code == 0, outcome.output
    stored, segmenter = (
        read(Path("run") / LAST, FollowupSystem),
        load_bundle(shipped_bundles() / "hematoma", "cpu", Manifest).network,
    )
    assert torch.equal(stored["network"]["stem.conv.weight"], segmenter.state_dict()["stem.conv.weight"])
    assert stored["recipe"]["begun_from"] == "hematoma"
    assert verify_bundle(Path("mine")).trained_on == "simulated patients, from hematoma"
    outcome = CliRunner().invoke(app, ["--out", "other", "--steps", "1", "--start-from", "prognosis"])
    assert outcome.exit_code == 2
    assert "prognosis is no followup that training could go on from" in outcome.output


def test_only_an_encoder_that_begins_from_another_network_stays_as_it_is() -> None:
    for plan in (PLANS["followup"], *PLANS["followup"].variants.values()):
        assert isinstance(plan.system, FollowupSystem)
        assert plan.begins_from or plan.system.encoder_learns
        assert plan.system.encoder_learns == (plan.system.spacing_mm != PLANS["followup"].system.spacing_mm)


def test_a_training_of_another_network_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    plan = small("volume-survival")
    other = replace(plan.system, config=replace(plan.system.config, widths=(4, 8, 8, 16)))  # type: ignore[type-var]
    plan, app = replace(plan, variants={"wider": replace(plan, system=other)}), typer.Typer()
    app.command()(fit_on_patients(plan))
    line = ["--out", str(tmp_path / "run"), "--steps", "1", "--no-bundle"]
    assert CliRunner().invoke(app, line).exit_code == 0
    elsewhere = ["--out", str(tmp_path / "other"), "--steps", "1", "--start-from", str(tmp_path / "run")]
    for again in (line, elsewhere):
        outcome = CliRunner().invoke(app, [*again, "--variant", "wider"])
        assert outcome.exit_code == 2
        assert "is of another network" in outcome.output


@pytest.mark.parametrize("name", PLANS)
def test_every_variant_is_another_network_or_another_task_or_sees_others(name: str) -> None:
    plans = [replace(PLANS[name], variants={}), *PLANS[name].variants.values()]
    assert len({(repr(plan.system), plan.synthetic) for plan in plans}) == len(plans)
    for plan in plans:
        assert PLANS[name].on(plan.system.shape, plan.system.spacing_mm).system.grid == plan.system.grid


@pytest.mark.parametrize("name", PLANS)
def test_every_variant_is_read_from_its_checkpoint_as_it_was(name: str) -> None:
    for plan in (PLANS[name], *PLANS[name].variants.values()):
        assert system_of({"recipe": {"system": asdict(plan.system)}}, type(plan.system)) == plan.system


def test_the_network_that_b_is_compared_with_trains_goes_on_and_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    plan = small("prognosis")
    plan, app = replace(plan, variants={"perez": replace(plan, system=PEREZ)}), typer.Typer()
    app.command("fit")(fit_on_patients(plan))
    app.command("evaluate")(evaluate_of("prognosis", plan))
    run, page = str(tmp_path / "perez"), tmp_path / "page.md"
    for line in (
        ["fit", "--out", run, "--steps", "1", "--variant", "perez"],
        ["fit", "--out", run, "--steps", "2", "--variant", "perez"],
        ["evaluate", "--run", run, "--patients", "20", "--out", str(page)],
    ):
        outcome = CliRunner().invoke(app, line)
        assert outcome.exit_code == 0, outcome.output
    stored = read(tmp_path / "perez" / LAST, PrognosisSystem)
    assert (stored["step"], system_of(stored, PrognosisSystem)) == (2, PEREZ)
    row = next(line for line in page.read_text().splitlines() if line.startswith("| perez |"))
    assert row.endswith("| - | - | - |")  # consciousness and age, which it does not say
    assert "| perez | - |" not in row
    assert "| perez | 0.626 (0.09) | 0.569 |" in page.read_text()
    assert "| perez | 0.626 (0.09) | 0.569 |" in outcome.output


def test_the_fine_variant_sees_as_much_of_the_head_as_the_shipped_network_on_voxels_an_eighth_as_large() -> None:
    shipped, fine = PLANS["expansion"].system, PLANS["expansion"].variants["fine"].system
    assert fine.spacing_mm == (2.5, 1.0, 1.0)
    assert [2 * size for size in shipped.shape] == list(fine.shape)
    assert fine.config == shipped.config


def test_a_variant_trains_from_another_and_is_measured_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stages, as system C's paper hints: volume first."""
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda system: replace(cpu(system), makers=0, threads=1))
    plan = small("volume-survival")
    alone = replace(plan.system, survival=0)  # type: ignore[type-var]
    plan = replace(plan, variants={"volume-alone": replace(plan, system=alone)})
    app = typer.Typer()
    app.command("fit")(fit_on_patients(plan))
    app.command("evaluate")(evaluate_of("volume-survival", plan))
    first, second = tmp_path / "first", tmp_path / "second"
    runs = ["--run", str(first), "--run", f"two stages={second}", "--patients", "20"]
    page = ["--out", str(tmp_path / "page.md")]
    lines = (
        ["fit", "--out", str(first), "--steps", "1", "--variant", "volume-alone"],
        ["fit", "--out", str(second), "--steps", "1", "--start-from", str(first), "--no-bundle"],
        ["evaluate", *runs, *page],
        ["evaluate", *runs, *page, "--section", "volume first"],
    )
    for line in lines:
        outcome = CliRunner().invoke(app, line)
        assert outcome.exit_code == 0, outcome.output
    text = (tmp_path / "page.md").read_text()
    assert "## volume-survival, trainings compared" in text  # beside the section of the bundles
    assert "## volume-survival, volume first" in text
    assert f"1 steps, voxels of {' x '.join(f'{mm:g}' for mm in SPACING_MM)} mm: first, two stages." in text
    assert text.index("| first |") < text.index("| two stages |") < text.index("| median volume; all live |")
    assert "- first against two stages: MAE mL " in text
    assert read(first / LAST, VolumeSurvivalSystem)["recipe"]["system"]["survival"] == 0

    outcome = CliRunner().invoke(app, ["evaluate", *runs, "--section", "of no file"])
    assert outcome.exit_code == 2
    assert "is for --run and --out" in outcome.output
    outcome = CliRunner().invoke(app, ["fit", "--out", str(first), "--variant", "none"])
    assert outcome.exit_code == 2
    assert "volume-alone" in outcome.output


@pytest.mark.parametrize(("name", "system"), [*SMALL.items(), ("prognosis", PEREZ)])
def test_every_weight_moves(name: str, system: System) -> None:
    recipe = replace(cpu(system), learning_rate=0.1, warm_up_steps=0)
    progress = begin(recipe)
    batch = small(name).patients(first_seed=300_000_000, heads=2).batch(0)
    before = {n: w.clone() for n, w in progress.network.named_parameters()}
    assert all(group.get("scale", 1.0) > 0 for group in progress.optimizer.param_groups)
    for _ in range(3):  # what lies behind a layer of zeros gets its gradient once that has moved
        for group in progress.optimizer.param_groups:
            group["lr"] = 1e-3 * group.get("scale", 1.0)
        losses = recipe.system.losses(recipe.system.answer(progress.network, batch), batch, late=False)
        progress.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        progress.optimizer.step()
    still = [n for n, w in progress.network.named_parameters() if torch.equal(w, before[n])]
    assert still == []
