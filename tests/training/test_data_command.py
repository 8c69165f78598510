import pytest
import typer
from typer.testing import CliRunner

from tests.training.data_factory import lps_affine, mask_of, write_head, write_nifti
from training.data.command import import_data
from training.data.manifest import read_manifest

APP = typer.Typer()
APP.command()(import_data)


@pytest.fixture
def folder(tmp_path):
    for number in ("001", "002"):
        write_head(tmp_path / "set" / "data" / f"{number}.nii.gz")
        write_nifti(tmp_path / "set" / "label" / f"{number}.nii.gz", mask_of(1))
    return tmp_path


def run(folder, source="instance22"):
    return CliRunner().invoke(APP, [source, str(folder / "set"), "--out", str(folder / "m.jsonl")])


def test_a_data_set_becomes_a_manifest_that_can_be_read(folder):
    result = run(folder)
    assert result.exit_code == 0
    assert "2 rows" in result.stdout
    assert [row.study for row in read_manifest(folder / "m.jsonl")] == ["001", "002"]


def test_a_refused_row_is_named_by_number_and_the_rest_is_written(folder):
    write_nifti(folder / "set" / "label" / "002.nii.gz", mask_of(1), lps_affine(spacing_mm=(5, 0.5, 0.9)))
    result = run(folder)
    assert result.exit_code == 1
    assert "row 2 instance22-002 002 refused" in result.stderr
    assert "spacing: (0.5, 0.9, 5) mm where the CT has (0.5, 0.8, 5) mm" in result.stderr
    assert [row.study for row in read_manifest(folder / "m.jsonl")] == ["001"]


def test_a_folder_that_is_not_the_data_set_says_what_lacks(folder):
    result = run(folder, source="cq500")
    assert result.exit_code == 2
    assert "reads.csv" in result.stderr
    assert not (folder / "m.jsonl").exists()


def test_an_unknown_source_is_answered_with_the_known_ones(folder):
    result = run(folder, source="kaggle")
    assert result.exit_code == 2
    assert "instance22" in result.stderr


def test_a_folder_without_the_table_that_its_layout_has_is_named(folder):
    result = run(folder, "hospital")
    assert result.exit_code == 2
    assert "studies.csv: is missing; docs/data.md" in result.stderr
