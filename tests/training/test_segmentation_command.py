"""The commands around a training: bad input is named before anything is simulated, curves become a picture."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.training.data_factory import phantom_row, row_of
from tests.training.fit_factory import Cubes, nothing_to_validate, tiny_recipe
from training.__main__ import app
from training.data.manifest import write_manifest
from training.fit.checkpoint import LAST
from training.fit.curves import _rows
from training.fit.recipes import RECIPES, RecipeName
from training.fit.trainer import fit
from training.segmentation.system import SegmenterSystem


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_a_manifest_without_a_head_to_train_on_is_refused(tmp_path: Path) -> None:
    write_manifest([row_of(tmp_path / "ct.nii.gz")], tmp_path / "manifest.jsonl")
    outcome = run("fit", "segmenter", "--out", tmp_path / "run", "--data", tmp_path / "manifest.jsonl")
    assert outcome.exit_code == 2
    assert "manifest.jsonl: no row of split train has a mask or is read as free of hemorrhage" in outcome.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [("absent", "there is no bundle absent"), ("hematoma-baseline", "is no segmenter that training could go on from")],
)
def test_a_bundle_that_training_cannot_begin_from_is_refused(tmp_path: Path, bundle: str, reason: str) -> None:
    outcome = run("fit", "segmenter", "--out", tmp_path / "run", "--start-from", bundle)
    assert outcome.exit_code == 2
    assert reason in outcome.output
    assert not (tmp_path / "run").exists()


def test_a_training_on_own_data_validates_on_them_too_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        phantom_row(tmp_path / split, 30.0, patient=split, study=split, split=split)
        for split in ("train", "validation")
    ]
    write_manifest(rows, tmp_path / "manifest.jsonl")
    monkeypatch.setitem(RECIPES, RecipeName.CPU, lambda _: tiny_recipe())
    monkeypatch.setattr("training.segmentation.command.VALIDATION_BATCHES", 1)
    asked = ("fit", "segmenter", "--out", tmp_path / "run", "--data", tmp_path / "manifest.jsonl", "--steps")
    for steps in (1, 2):
        outcome = run(*asked, steps)
        assert outcome.exit_code == 0, outcome.output
    assert "2 steps; worst style" in outcome.output
    with (tmp_path / "manifest.jsonl").open("a") as manifest:
        manifest.write("\n")
    refused = run(*asked, 3)
    assert refused.exit_code == 2
    assert "learned from other own patients: manifest" in refused.output
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "own data" in line] == [1, 2]
    assert 0 <= lines[-1]["own data"] <= 1


def test_processes_that_torchrun_starts_share_own_and_simulated_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = []
    monkeypatch.setitem(RECIPES, RecipeName.DDP, lambda _: tiny_recipe(backend="gloo"))
    monkeypatch.setattr(
        "training.segmentation.command.train", lambda _, source, *rest, **options: sources.append(source)
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    row = row_of(tmp_path / "ct.nii.gz", types=())
    write_manifest([row], tmp_path / "manifest.jsonl")
    for recipe in ("ddp", "cpu"):
        asked = ("--data", tmp_path / "manifest.jsonl", "--recipe", recipe)
        outcome = run("fit", "segmenter", "--out", tmp_path / "run", *asked)
        assert outcome.exit_code == 0, outcome.output
    assert [source.processes for source in sources] == [2, 1]


def test_a_device_that_is_absent_and_a_checkpoint_that_is_absent_are_named(tmp_path: Path) -> None:
    outcome = run("simulate", "--out", tmp_path / "out", "--device", "cudda")
    assert outcome.exit_code == 2
    assert "this machine has no device cudda" in outcome.output
    outcome = run("export", "segmenter", "absent.pt", "--out", tmp_path / "b", "--version", "1", "--card", __file__)
    assert outcome.exit_code == 2
    assert "absent.pt" in outcome.output
    assert "does not exist" in outcome.output


def test_the_curves_of_two_runs_are_one_picture(tmp_path: Path) -> None:
    for run_name, first in (("one", 20), ("two", 60)):
        rows = [{"step": first + 20 * i, "kind": "training", "loss": 1.0 / (i + 1), "rate": 1e-3} for i in range(2)]
        rows.append({"step": first + 20, "kind": "validation", "simulated": 0.5})
        (tmp_path / run_name).mkdir()
        (tmp_path / run_name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "curves.png"
    assert run("curves", tmp_path / "one", tmp_path / "two", "--out", out).exit_code == 0
    with Image.open(out) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_steps_of_a_run_that_began_anew_are_counted_on(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"step": step, "kind": "training"}) + "\n" for step in (20, 40)))
    assert [row["step"] for row in _rows(file, 60)] == [80, 100]
    assert [row["step"] for row in _rows(file, 0)] == [20, 40]
    assert [row["step"] for row in _rows(file, 10)] == [20, 40]
    file.write_text("")
    assert _rows(file, 60) == []


def test_a_journal_that_was_cut_and_styles_that_come_and_go_are_drawn(tmp_path: Path) -> None:
    rows = [{"step": 20, "kind": "training", "loss": 1.0, "rate": 1e-3}]
    rows += [{"step": 20, "kind": "validation", "a": 0.5, "b": 0.4}, {"step": 40, "kind": "validation", "b": 0.6}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 60, "ki')
    assert run("curves", tmp_path, "--out", tmp_path / "curves.png").exit_code == 0


@pytest.mark.parametrize("asked", [("--decay-steps", 100, "--hours", 1), ("--decay-steps", 100, "--steps", 50)])
def test_a_decay_that_has_no_end_or_no_room_is_refused(tmp_path: Path, asked: tuple[object, ...]) -> None:
    outcome = run("fit", "segmenter", "--out", tmp_path / "run", *asked)
    assert outcome.exit_code == 2
    assert "needs --steps, and as many at least" in outcome.output


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    fit(
        replace(RECIPES[RecipeName.CPU](SegmenterSystem()), steps=0, makers=0),
        Cubes(),
        nothing_to_validate,
        tmp_path / "run",
    )
    return tmp_path / "run" / LAST


def exported(checkpoint: Path, out: Path, card: str, *more: object) -> Result:
    (checkpoint.parent / "card.md").write_text(card)
    asked = ("--version", "1", "--trained-on", "nobody", "--card", checkpoint.parent / "card.md")
    return run("export", "segmenter", checkpoint, "--out", out, *asked, *more)


@pytest.mark.parametrize(
    ("name", "more", "complaint"),
    [
        ("mine", ("--found", 0.1), "lenient <= found <= strict"),
        ("My_Name", (), "name: String should match"),
        ("mine", ("--created", "1.2.2026"), "Invalid isoformat"),
    ],
)
def test_values_that_no_bundle_has_are_named(
    checkpoint: Path, tmp_path: Path, name: str, more: tuple[object, ...], complaint: str
) -> None:
    outcome = exported(checkpoint, tmp_path / name, "a card", *more)
    assert outcome.exit_code == 2
    assert complaint in outcome.output
    assert not (tmp_path / name).exists()


def test_a_good_bundle_stays_until_its_successor_is_verified(checkpoint: Path, tmp_path: Path) -> None:
    assert exported(checkpoint, tmp_path / "mine", "first").exit_code == 0
    assert exported(checkpoint, tmp_path / "mine", " ").exit_code == 2
    assert (tmp_path / "mine" / "CARD.md").read_text() == "first"
    assert exported(checkpoint, tmp_path / "mine", "second").exit_code == 0
    assert (tmp_path / "mine" / "CARD.md").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]


def test_a_folder_without_metrics_is_named(tmp_path: Path) -> None:
    outcome = run("curves", tmp_path, "--out", tmp_path / "curves.png")
    assert outcome.exit_code == 2
    assert "metrics.jsonl: no such file" in outcome.output
