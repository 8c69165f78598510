import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.training.data_factory import row_of
from training.data.manifest import DataError, read_manifest, split_of, write_manifest

FULL = {
    "mask": Path("/data/x/mask.nii.gz"),
    "label_map": {1: "IPH", 6: "any"},
    "types": ("IPH",),
    "volume_ml": 12.5,
    "t_hours": 24,
    "onset_hours": 2.5,
    "paired_with": "before",
    "age": 71,
    "gcs": 14,
    "outcome": {"type": "mrs_90d", "value": 4},
    "systolic_mmhg": 170.0,
    "anticoagulant": False,
    "thrombectomy": False,
}


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = (row_of(Path("/data/x/ct.nii.gz"), **FULL), row_of(tmp_path / "ct.nii.gz", study="t"))
    write_manifest(rows, tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == rows


def test_what_is_not_known_is_null(tmp_path):
    write_manifest([row_of(tmp_path / "ct.nii.gz")], tmp_path / "m.jsonl")
    fields = json.loads((tmp_path / "m.jsonl").read_text())
    assert {name for name, value in fields.items() if value is None} == set(FULL)


def test_paths_are_relative_to_the_manifest_so_that_a_folder_can_move(tmp_path):
    (tmp_path / "before").mkdir()
    write_manifest([row_of(tmp_path / "before" / "ct" / "1.nii.gz")], tmp_path / "before" / "m.jsonl")
    assert '"ct": "ct/1.nii.gz"' in (tmp_path / "before" / "m.jsonl").read_text()
    (tmp_path / "before").rename(tmp_path / "after")
    assert read_manifest(tmp_path / "after" / "m.jsonl")[0].ct == tmp_path / "after" / "ct" / "1.nii.gz"


BROKEN = {
    "gcs: Input should be greater than or equal to 3": '{"gcs": 2}',
    "patient: Field required": "{}",
    "surprise: Extra inputs are not permitted": '{"surprise": 1}',
    "not JSON: Expecting": "{",
    "is not a JSON object": "[]",
    "label_map.1: Input should be": '{"label_map": {"1": "ICH"}}',
}


@pytest.mark.parametrize("reason", BROKEN)
def test_an_unusable_line_is_refused_with_file_and_line(tmp_path, reason):
    path = tmp_path / "m.jsonl"
    write_manifest([row_of(tmp_path / "ct.nii.gz")], path)
    path.write_text(path.read_text() + "\n" + BROKEN[reason] + "\n")
    with pytest.raises(DataError, match=rf"m\.jsonl, line 3: .*{reason}"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"study": "t", "split": "test"}, "patient p is in train and in test"),
        ({"patient": "q"}, "study s of tests is there twice"),
    ],
)
def test_rows_that_contradict_each_other_are_neither_written_nor_read(tmp_path, fields, reason):
    path = tmp_path / "m.jsonl"
    rows = [row_of(tmp_path / "1.nii"), row_of(tmp_path / "2.nii", **fields)]
    with pytest.raises(DataError, match=f"line 2: {reason}"):
        write_manifest(rows, path)
    assert not path.exists()
    write_manifest(rows[:1], path)
    first = path.read_text()
    write_manifest(rows[1:], path)
    path.write_text(first + path.read_text())
    with pytest.raises(DataError, match=f"line 2: {reason}"):
        read_manifest(path)


def test_a_mask_without_the_meaning_of_its_values_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="mask and label_map come together"):
        row_of(tmp_path / "ct.nii", mask=tmp_path / "mask.nii")


def test_a_patient_is_always_in_the_same_split():
    assert [split_of(f"rsna-{n:08x}") for n in (1, 2, 3)] == [split_of(f"rsna-{n:08x}") for n in (1, 2, 3)]
    assert (split_of("cq500-1"), split_of("cq500-4")) == ("train", "train")  # for ever: trained bundles rely on it


def test_about_one_patient_in_ten_is_for_validation_and_one_for_test():
    count = Counter(split_of(f"patient {n}") for n in range(5000))
    assert count["validation"] == pytest.approx(500, rel=0.15)
    assert count["test"] == pytest.approx(500, rel=0.15)
