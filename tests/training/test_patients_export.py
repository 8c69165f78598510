"""Each of the published systems becomes a bundle that loads and knows what it was measured on."""

from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ichnode.inference.bundle import load_bundle
from ichnode.inference.manifest import ForecasterManifest
from training.fit.checkpoint import LAST, begin, save
from training.fit.recipes import cpu
from training.patients.command import export_of
from training.patients.plans import PLANS
from training.patients.simulated import validation_of
from training.simulate.cohort import VALIDATION_SEEDS
from training.simulate.styles import TRAINING


@pytest.mark.parametrize("name", PLANS)
def test_the_bundle_loads_and_knows_its_patients(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.patients.calibration._platt", lambda logits, truth: (1.0, 0.0))  # untrained
    coarse = PLANS[name].variants["coarse"]  # 0.29 of the voxels
    recipe = cpu(coarse.system)
    save(begin(recipe), recipe, tmp_path / LAST)
    (tmp_path / "card.md").write_text("A test.")
    app = typer.Typer()
    app.command()(export_of(PLANS[name]))
    said = ["--version", "0.1", "--card", str(tmp_path / "card.md"), "--trained-on", "nothing", "--patients", "20"]
    outcome = CliRunner().invoke(app, [str(tmp_path / LAST), "--out", str(tmp_path / name), *said])
    assert outcome.exit_code == 0, outcome.output

    bundle = load_bundle(tmp_path / name, "cpu", ForecasterManifest)
    assert (bundle.manifest.kind, bundle.manifest.shape) == (name, coarse.system.shape)
    source = validation_of(coarse.patients(VALIDATION_SEEDS), TRAINING, passed_over=10_000)
    batch = replace(source, followup=False).batch(3)
    least_ml, most_ml = bundle.manifest.hematoma_ml
    assert least_ml <= float(batch.volume_ml("IPH", "IVH", spacing_mm=coarse.system.spacing_mm)[0]) <= most_ml
    assert bundle.manifest.strangest > 1


def test_a_variant_becomes_a_bundle_of_its_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.patients.calibration._platt", lambda logits, truth: (1.0, 0.0))
    plan = PLANS["volume-survival"].variants["coarse"]
    system = replace(plan.system, config=replace(plan.system.config, widths=(4, 8, 8, 16)))  # type: ignore[type-var]
    recipe = cpu(system)
    save(begin(recipe), recipe, tmp_path / LAST)
    (tmp_path / "card.md").write_text("A test.")
    app = typer.Typer()
    app.command()(export_of(plan))
    said = ["--version", "0.1", "--card", str(tmp_path / "card.md"), "--trained-on", "nothing", "--patients", "20"]
    outcome = CliRunner().invoke(app, [str(tmp_path / LAST), "--out", str(tmp_path / "small"), *said])
    assert outcome.exit_code == 0, outcome.output
    assert load_bundle(tmp_path / "small", "cpu", ForecasterManifest).network.config.widths == (4, 8, 8, 16)


def test_a_checkpoint_of_another_system_is_told(tmp_path: Path) -> None:
    recipe = cpu(PLANS["prognosis"].system)
    save(begin(recipe), recipe, tmp_path / LAST)
    (tmp_path / "card.md").write_text("A test.")
    app = typer.Typer()
    app.command()(export_of(PLANS["expansion"]))
    said = ["--version", "0.1", "--card", str(tmp_path / "card.md"), "--trained-on", "nothing"]
    outcome = CliRunner().invoke(app, [str(tmp_path / LAST), "--out", str(tmp_path / "expansion"), *said])
    assert outcome.exit_code == 2
    assert "is a checkpoint of PrognosisSystem, not of ExpansionSystem" in outcome.output
