import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from ichnode.phantom import REGULAR, head_ct
from tests.series_factory import stored_hu
from tests.training.data_factory import row_of, write_nifti
from training.data.manifest import Row, write_manifest
from training.evaluate import command
from training.evaluate.command import calibrate_segmenter, segmenter

APP = typer.Typer()
APP.command()(segmenter)
CALIBRATE = typer.Typer()
CALIBRATE.command()(calibrate_segmenter)
GEOMETRY = replace(REGULAR, rows=128, columns=128)
PLOTS = ("bland-altman.png", "reliability.png", "dice-by-volume.png", "sensitivity-by-volume.png")


def row(folder: Path, number: int, hematoma_ml: float, **fields: object) -> Row:
    """A phantom with its mask as NIfTI."""
    phantom = head_ct(hematoma_ml=hematoma_ml, geometry=GEOMETRY, seed=number)
    first = phantom.datasets[0]
    affine = np.diag([*map(float, first.PixelSpacing), 5.0, 1.0])
    affine[:3, 3] = first.ImagePositionPatient
    ct = write_nifti(folder / f"{number}.nii.gz", stored_hu(phantom.datasets).astype(np.int16), affine)
    mask = write_nifti(folder / f"{number}-mask.nii.gz", phantom.hematoma.astype(np.uint8), affine)
    plain = row_of(ct, patient=f"p{number}", study=str(number), source="simulated/phantom", split="test")
    return plain.model_copy(update={"mask": mask, "label_map": {1: "IPH"}, **fields})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bleeding heads, a normal one, one for training and one that nobody looked at."""
    folder = tmp_path_factory.mktemp("cases")
    rows = [row(folder, 1, 30.0), row(folder, 2, 8.0), row(folder, 3, 0.0), row(folder, 4, 20.0, split="train")]
    rows.append(rows[0].model_copy(update={"patient": "p5", "study": "5", "mask": None, "label_map": None}))
    write_manifest(rows, folder / "manifest.jsonl")
    return folder


def run(folder: Path, *more: str) -> Result:
    return CliRunner().invoke(APP, ["--data", str(folder / "manifest.jsonl"), "--device", "cpu", *more])


def test_bundles_and_trivial_ways_are_measured_side_by_side(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "--bundle", "hematoma-baseline", "--out", str(tmp_path / "report"))
    assert result.exit_code == 0, result.output
    assert "SIMULATED PATIENTS - RESEARCH USE ONLY" in result.stdout
    assert "3 of 5 rows" in result.stdout
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    baseline, bright, empty = content["contenders"].values()
    assert baseline["styles"]["all"]["dice"]["value"] > 0.85
    assert baseline["styles"]["all"]["normals_clean"]["value"] == 1.0
    assert baseline["dice_gain"]["50-90 HU in brain"]["value"] > 0
    assert bright["styles"]["all"]["sensitivity"]["value"] == 1.0
    assert empty["styles"]["all"]["dice"]["value"] == 0.0
    with (tmp_path / "report" / "cases.csv").open() as file:
        assert [line["case"] for line in csv.DictReader(file)][:3] == [f"simulated/phantom/{n}" for n in (1, 2, 3)]
    for name in PLOTS:
        assert min(Image.open(tmp_path / "report" / name).size) > 500


def test_a_limit_and_a_split_choose_the_rows(folder: Path) -> None:
    result = run(folder, "--bundle", "hematoma-baseline", "--split", "train", "--limit", "1")
    assert result.exit_code == 0, result.output
    assert "1 of 5 rows" in result.stdout


def test_a_row_that_cannot_be_read_is_named_and_the_rest_measured(folder: Path, tmp_path: Path) -> None:
    good = row(tmp_path, 6, 30.0)
    bad = good.model_copy(update={"study": "bad", "ct": tmp_path / "absent.nii.gz"})
    write_manifest([bad, good], tmp_path / "manifest.jsonl")
    result = run(tmp_path, "--bundle", "hematoma-baseline")
    assert result.exit_code == 0, result.output
    assert "simulated/phantom/bad refused" in result.stderr
    assert "2 of 2 rows, 1 of them refused" in result.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [(("--bundle", "absent"), "there is no bundle absent"), (("--split", "validation"), "none of 5 rows")],
)
def test_what_cannot_be_evaluated_is_said(folder: Path, more: tuple[str, ...], message: str) -> None:
    result = run(folder, *more)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_style_whose_data_are_absent_is_named_before_anything_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "is_at_hand", lambda style: False)
    result = CliRunner().invoke(APP, ["--held-out", "1", "--style", "GE normal", "--device", "cpu"])
    assert result.exit_code == 2
    assert "GE normal: not evaluated" in result.stderr


@pytest.mark.parametrize(
    ("bundle", "reason"), [("no-such-bundle", "no-such-bundle"), ("hematoma-baseline", "has no logits")]
)
def test_a_bundle_that_cannot_be_calibrated_is_named(bundle: str, reason: str) -> None:
    result = CliRunner().invoke(CALIBRATE, [bundle])
    assert result.exit_code == 2
    assert reason in result.stderr
