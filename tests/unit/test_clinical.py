"""A table of what no header says: read as it is at the moment, and what is wrong in it stays untold and is logged."""

import logging
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from ichnode.stages.analysis import known_of
from ichnode.stages.clinical import ClinicalTable, problems_of


def table(tmp_path: Path, *lines: str) -> ClinicalTable:
    file = tmp_path / "clinical.csv"
    file.write_text("\n".join(lines) + "\n", "utf-8-sig")
    return ClinicalTable(file=file)


def test_a_patient_is_found_by_accession_number_and_empty_cells_are_not_known(tmp_path: Path) -> None:
    clinical = table(
        tmp_path,
        "Accession,onset_to_ct_h,anticoagulant,systolic_mmhg,age,gcs",
        "A1,2.5,1,180,,9",
        "A2,,0,,,",
    )
    assert clinical.of("A1") == {"onset_to_ct_h": 2.5, "anticoagulant": 1.0, "systolic_mmhg": 180.0, "gcs": 9.0}
    assert clinical.of("A2") == {"anticoagulant": 0.0}
    assert clinical.of("A3") == clinical.of("") == {}
    assert problems_of(tmp_path / "clinical.csv") == ()


def test_semicolons_and_decimal_commas_are_read_and_the_last_line_counts(tmp_path: Path) -> None:
    clinical = table(tmp_path, "accession;onset_to_ct_h", "A1;2,5", "A1;3,5")
    assert clinical.of("A1") == {"onset_to_ct_h": 3.5}


def test_it_is_read_anew_for_each_patient(tmp_path: Path) -> None:
    clinical = table(tmp_path, "accession,gcs", "A1,9")
    assert clinical.of("A2") == {}
    table(tmp_path, "accession,gcs", "A1,9", "A2,12")
    assert clinical.of("A2") == {"gcs": 12.0}


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (("accession,gcs", "A1,17"), "line 2: gcs: Input should be less than or equal to 15"),
        (("accession,gcs", "A1,nine"), "line 2: gcs"),
        (("accession,gcs", "A1,9,3"), "line 2: has 3 cells, the header has 2"),
        (
            ("accession,blood pressure", "A1,170"),
            "the header is accession, blood pressure; known columns are accession, on",
        ),
        (("gcs", "9"), "the header is gcs; known columns"),
        ((), "the header is empty"),
    ],
)
def test_what_is_wrong_is_not_told_and_is_logged_once(
    tmp_path: Path, lines: tuple[str, ...], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    clinical = table(tmp_path, *lines)
    with caplog.at_level(logging.WARNING):
        assert clinical.of("A1") == clinical.of("A1") == {}
    (record,) = caplog.records
    assert named in record.__dict__["detail"]


def test_a_wrong_line_takes_nothing_from_the_others(tmp_path: Path) -> None:
    assert table(tmp_path, "accession,gcs", "A1,99", "A2,9").of("A2") == {"gcs": 9.0}
    assert table(tmp_path, '"accession","gcs"', '"A1,9', '"A2","9"').of("A2") == {"gcs": 9.0}


def test_no_table_tells_nothing_and_a_lost_one_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ClinicalTable(file=None).of("A1") == {}
    assert not caplog.records
    assert ClinicalTable(file=tmp_path / "lost.csv").of("A1") == {}
    assert "lost.csv" in caplog.records[0].__dict__["detail"]


@pytest.mark.parametrize(
    ("said", "years"),
    [("076Y", 76.0), ("003M", 0.25), ("026W", 0.5), ("004D", 0.01), ("76", None), ("", None), ("XXXY", None)],
)
def test_the_age_of_a_header_is_known_in_years(said: str, years: float | None) -> None:
    header = Dataset()
    header.PatientAge = said
    assert known_of(header) == ({} if years is None else {"age": pytest.approx(years, rel=0.1)})
