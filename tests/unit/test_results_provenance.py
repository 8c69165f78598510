"""Identity of the results: patient and study as in the source, UIDs that follow from it, bytes that repeat."""

import io
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom import config
from pydicom.dataset import Dataset

from ichnode.domain.findings import Caveat, HematomaPart, HemorrhageType
from ichnode.domain.identity import is_uid
from ichnode.results.provenance import OF_AN_ANALYSIS, Result, Role
from tests.results_factory import (
    CONTEXT,
    EXPLAINED,
    MODEL,
    PROFILE,
    SMALL,
    Case,
    measured,
    phantom_case,
    save,
    shared_data,
)

# dciodvfy of 2022 does not know Synthetic Data (0008,001C)
KNOWN_ERRORS = re.compile(r"</\(0008,001c\)> - Attribute with an even group number is not a recognized standard")
SERIES = ("phantom", "by type", "no hematoma", "ge_head_nct", "philips_phantom_study/S2010")


def case_of(name: str) -> Case:
    if name == "phantom":
        return phantom_case(30)
    if name == "by type":
        case = phantom_case(30)
        part = HematomaPart(type=HemorrhageType.IPH, volume_ml=30.0, volume_low_ml=27.0, volume_high_ml=34.0)
        parts = tuple(replace(part, type=one) for one in HemorrhageType)
        case.hematoma = replace(measured(case.volume.grid, case.mask), parts=parts)
        case.caveats = tuple(Caveat)
        return case
    if name == "no hematoma":
        return phantom_case(0, followup=False)
    return Case(shared_data(name))


def bytes_of(result: Result) -> bytes:
    buffer = io.BytesIO()
    result.dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def uids(case: Case) -> set[str]:
    return {
        uid for result in case.results() for uid in (result.dataset.SOPInstanceUID, result.dataset.SeriesInstanceUID)
    }


@pytest.mark.parametrize("sop", ["sc", "ct"])
@pytest.mark.parametrize("name", SERIES)
def test_dciodvfy_finds_no_errors(name: str, sop: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    case = case_of(name)
    case.profile = replace(PROFILE, followup_sop=sop)
    results = case.results()
    one_each = {result.role: result for result in results}.values()
    for result in one_each:
        path = save(result, tmp_path / f"{result.role}.dcm")
        checked = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert [line for line in errors if not KNOWN_ERRORS.search(line)] == [], result.role


@pytest.mark.parametrize("sr_class", ["comprehensive_3d", "comprehensive", "enhanced"])
def test_reports_are_valid_in_each_configurable_class(sr_class: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None or shutil.which("dsrdump") is None:
        pytest.skip("dciodvfy (dicom3tools) or dsrdump (dcmtk) is not installed")
    case = phantom_case(30)
    case.profile = replace(PROFILE, sr_class=sr_class)
    for result in case.results():
        if result.dataset.Modality == "SR":
            path = save(result, tmp_path / "sr.dcm")
            checked = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
            assert not re.search(r"^Error", checked.stderr, re.MULTILINE)
            subprocess.run(["dsrdump", str(path)], check=True, capture_output=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SERIES)
def test_every_object_is_read_back_under_strict_validation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = case_of(name).results()
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    for result in results:
        read = pydicom.dcmread(io.BytesIO(bytes_of(result)))
        assert str(read)  # decodes every element
        assert is_uid(read.SOPInstanceUID)
        assert read.SOPInstanceUID == read.file_meta.MediaStorageSOPInstanceUID
        assert read.SeriesDescription.startswith("AI RESEARCH: ")
        assert len(read.SeriesDescription) <= 64


def test_roles_have_a_series_and_a_number_each() -> None:
    results = phantom_case(30).results()
    series = {(result.role, result.dataset.SeriesInstanceUID, result.dataset.SeriesNumber) for result in results}
    assert len(series) == len(OF_AN_ANALYSIS) == len({uid for _, uid, _ in series}) == len({n for _, _, n in series})
    assert {(role, number) for role, _, number in series} == {(r, PROFILE.series_numbers[r]) for r in OF_AN_ANALYSIS}
    of_slices = {Role.PREDICTED_SERIES, *EXPLAINED}
    single = [result.role for result in results if result.role not in of_slices]
    assert len(single) == len(set(single))
    assert len({result.dataset.SOPInstanceUID for result in results}) == len(results)


def test_only_the_wanted_objects_are_written() -> None:
    case = phantom_case(30)
    case.profile = replace(PROFILE, objects=frozenset({"measurement_report", "summary_page"}))
    assert [result.role for result in case.results()] == ["measurement_report", "summary_page"]


def test_the_same_run_gives_the_same_bytes() -> None:
    first, second = phantom_case(30).results(), phantom_case(30).results()
    assert [bytes_of(result) for result in first] == [bytes_of(result) for result in second]


def test_another_clock_changes_no_uid() -> None:
    later = phantom_case(30)
    later.context = replace(CONTEXT, run_at=CONTEXT.run_at + timedelta(days=1))
    assert uids(later) == uids(phantom_case(30))


@pytest.mark.parametrize("change", ["weights", "version", "configuration", "rule"])
def test_another_model_or_configuration_changes_every_uid(change: str) -> None:
    case = phantom_case(30)
    if change == "weights":
        case.model = replace(MODEL, weights_sha256="d" * 64)
    elif change == "version":
        case.model = replace(MODEL, version="1.0.1")
    elif change == "configuration":
        case.context = replace(CONTEXT, config_sha256="e" * 64)
    else:
        case.context = replace(CONTEXT, rule="another rule")
    assert not uids(case) & uids(phantom_case(30))


@pytest.mark.parametrize(
    ("charset", "name", "expected_charset"),
    [
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO_IR 192", "Wałęsa^Łukasz=王^小东", "ISO_IR 192"),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
    ],
)
def test_patient_and_study_are_those_of_the_source(charset: str, name: str, expected_charset: str) -> None:
    case = phantom_case(30)
    for source in case.sources:
        source.SpecificCharacterSet, source.PatientName = charset, name
        source.StudyDescription, source.PatientAge = "HEAD", "076Y"
    case.sources = tuple(read_back(source) for source in case.sources)
    for result in case.results():
        read = pydicom.dcmread(io.BytesIO(bytes_of(result)))
        assert read.SpecificCharacterSet == expected_charset
        assert str(read.PatientName) == name
        for keyword in (
            "PatientID",
            "StudyInstanceUID",
            "StudyDescription",
            "AccessionNumber",
            "StudyDate",
            "PatientAge",
        ):
            assert read[keyword].value == case.sources[0][keyword].value


def read_back(source: Dataset) -> Dataset:
    """As a receiver gets it: encoded, not yet decoded."""
    buffer = io.BytesIO()
    source.save_as(buffer, implicit_vr=False, little_endian=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()), force=True)


@pytest.mark.filterwarnings("ignore:.*(PN component length|Invalid value for VR)")
def test_missing_and_sloppy_attributes_do_not_stop_the_results() -> None:
    case = phantom_case(30)
    for source in case.sources:
        for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "StudyTime", "AccessionNumber", "SliceThickness"):
            del source[keyword]
        for keyword in ("ReferringPhysicianName", "InstanceNumber", "BodyPartExamined"):
            del source[keyword]
        source.add_new("PatientName", "PN", "X" * 80)
        source.add_new("StudyDate", "DA", "01/02/2026")
        source.add_new("PatientSex", "CS", "unknown")
        source.PatientIdentityRemoved, source.DeidentificationMethod = "YES", ""
    case.volume = replace(
        case.volume, grid=replace(case.volume.grid, slice_thickness_mm=0 * case.volume.grid.slice_thickness_mm)
    )
    results = case.results()
    assert {result.role for result in results} == OF_AN_ANALYSIS
    for result in results:
        assert result.dataset.PatientName == "X" * 80
        assert result.dataset.StudyDate == "01/02/2026"
        assert "AccessionNumber" in result.dataset
        assert result.dataset.DeidentificationMethod == "Not stated in the source"
    thickness = case.result(Role.SEGMENTATION).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness
    assert thickness == pytest.approx(SMALL.thickness_mm[0])


def test_composing_leaves_the_source_headers_as_they_are() -> None:
    case = phantom_case(30)
    for source in case.sources:
        source.PatientIdentityRemoved, source.DeidentificationMethod = "YES", ""
    before = [source.to_json() for source in case.sources]
    case.results()
    assert [source.to_json() for source in case.sources] == before


def test_times_are_in_the_zone_of_the_source_or_without_one() -> None:
    case = phantom_case(30)
    for source in case.sources:
        source.TimezoneOffsetFromUTC = "+0900"
    assert all("TimezoneOffsetFromUTC" not in result.dataset for result in case.results())
    case.context = replace(CONTEXT, run_at=datetime(2026, 1, 1, 23, 0, tzinfo=UTC))
    for result in case.results():
        assert (result.dataset.TimezoneOffsetFromUTC, result.dataset.SeriesDate, result.dataset.SeriesTime) == (
            "+0900",
            "20260102",
            "080000",
        )


def test_equipment_names_scanner_node_and_weights() -> None:
    for result in phantom_case(30).results():
        scanner, node = result.dataset.ContributingEquipmentSequence
        assert (scanner.Manufacturer, scanner.PurposeOfReferenceCodeSequence[0].CodeValue) == ("Phantom", "109101")
        assert node.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert MODEL.weights_sha256 in node.ContributionDescription
        assert result.dataset.DeviceSerialNumber == "node-1"
