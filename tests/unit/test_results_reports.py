"""The structured reports: valid TID 1500, every number with its unit and its model, every reference resolvable."""

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pydicom.dataset import Dataset

from ichnode.domain.findings import Caveat, HematomaPart, HemorrhageType, Side
from ichnode.domain.reasons import Reason
from ichnode.imaging.volume import Mask
from ichnode.results.compose import compose_not_analysed
from ichnode.results.outline_report import FREEHAND_TOOL, outer_contour, outlined_region
from ichnode.results.provenance import PredecessorReport, Result, Role
from tests.results_factory import (
    CONTEXT,
    FOLLOWUP_MODEL,
    MODEL,
    PROFILE,
    PROGNOSIS_MODEL,
    Case,
    measured,
    phantom_case,
    save,
)

REPORTS = (Role.MEASUREMENT_REPORT, Role.OUTLINE_REPORT, Role.PREDICTION_REPORT)
TEMPLATES = {Role.MEASUREMENT_REPORT: "1411", Role.OUTLINE_REPORT: "1410", Role.PREDICTION_REPORT: "1501"}


def items(item: Dataset) -> Iterator[Dataset]:
    """All content items below `item`."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from items(child)


def code(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def below(item: Dataset, code_value: str) -> list[Dataset]:
    return [child for child in items(item) if code(child) == code_value]


def groups(report: Dataset) -> list[Dataset]:
    return below(report, "125007")


def values(report: Dataset, code_value: str) -> list[tuple[float, str]]:
    """(number, unit) of every NUM under a concept."""
    measured_values = [num.MeasuredValueSequence[0] for num in below(report, code_value)]
    return [(float(v.NumericValue), v.MeasurementUnitsCodeSequence[0].CodeValue) for v in measured_values]


@pytest.fixture(scope="module")
def case() -> Case:
    return phantom_case(30)


@pytest.fixture(scope="module")
def reports(case: Case) -> dict[str, Dataset]:
    return {result.role: result.dataset for result in case.results() if result.role in REPORTS}


@pytest.mark.parametrize("role", REPORTS)
def test_a_report_is_a_preliminary_tid_1500_of_one_template(reports: dict[str, Dataset], role: Role) -> None:
    report = reports[role]
    assert code(report) == "126000"
    template = report.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    assert {group.ContentTemplateSequence[0].TemplateIdentifier for group in groups(report)} == {TEMPLATES[role]}
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    (library,) = below(report, "111028")
    assert below(library, "260753009")
    (procedure,) = below(report, "121058")
    assert procedure.ConceptCodeSequence[0].CodeValue == "25045-6"


@pytest.mark.parametrize("role", REPORTS)
def test_every_group_is_tracked_first_and_is_for_research_only(reports: dict[str, Dataset], role: Role) -> None:
    for group in groups(reports[role]):
        assert [code(item) for item in group.ContentSequence[:2]] == ["112039", "112040"]
        (intended_use,) = below(group, "RUO")
        assert intended_use.ConceptCodeSequence[0].CodeValue == "RUO1"
        (training,) = below(group, "TRAINED")
        assert training.TextValue.startswith("Trained on ")


@pytest.mark.parametrize("role", REPORTS)
def test_every_number_names_its_algorithm(reports: dict[str, Dataset], role: Role) -> None:
    numbers = [item for group in groups(reports[role]) for item in items(group) if item.ValueType == "NUM"]
    assert numbers
    for number in numbers:
        assert below(number, "111001")
        assert below(number, "111003")
        assert any("weights_sha256=" in parameter.TextValue for parameter in below(number, "111002"))
    assert all("ConceptNameCodeSequence" in item for item in items(reports[role]))


@pytest.mark.parametrize("role", REPORTS)
def test_every_referenced_instance_is_evidence(reports: dict[str, Dataset], role: Role, case: Case) -> None:
    report = reports[role]
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        instance.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    referenced = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items(report) if item.ValueType == "IMAGE"
    }
    assert referenced
    assert referenced <= evidence
    assert set(case.volume.grid.sop_instance_uids) <= evidence


def test_the_volumes_are_those_of_the_findings(reports: dict[str, Dataset], case: Case) -> None:
    report = reports[Role.MEASUREMENT_REPORT]
    volume_ml = case.volume.grid.volume_ml(case.mask)
    assert volume_ml == pytest.approx(30, rel=0.05)
    expected = {
        "118565006": [volume_ml, 1.05 * volume_ml],
        "VOLSTRICT": [0.9 * volume_ml],
        "VOLLENIENT": [1.15 * volume_ml],
    }
    for concept, numbers in expected.items():
        assert [number for number, _ in values(report, concept)] == pytest.approx(numbers, abs=0.0005)
        assert {unit for _, unit in values(report, concept)} == {"ml"}
    (method,) = below(report, "370129005")
    assert method.ConceptCodeSequence[0].CodeValue == "ABC2"
    assert values(report, "103339001") == [(47.5, "mm")]
    assert values(report, "103340004") == [(29.25, "mm")]
    assert values(report, "COMPONENTS") == [(1, "1")]


def test_the_measurements_refer_to_the_segment_by_its_tracking_uid(case: Case) -> None:
    seg, report = case.result(Role.SEGMENTATION), case.result(Role.MEASUREMENT_REPORT)
    (segment,) = below(report, "121191")
    reference = segment.ReferencedSOPSequence[0]
    assert (reference.ReferencedSOPInstanceUID, reference.ReferencedSegmentNumber) == (seg.SOPInstanceUID, 1)
    (tracking_uid,) = below(report, "112040")
    assert seg.SegmentSequence[0].TrackingUID == tracking_uid.UID


@pytest.mark.parametrize(("side", "expected"), [(Side.LEFT, "7771000"), (Side.RIGHT, "24028007"), (Side.MIDLINE, None)])
def test_the_side_is_the_laterality_of_the_finding_site(side: Side, expected: str | None) -> None:
    case = phantom_case(30)
    case.hematoma = replace(measured(case.volume.grid, case.mask), side=side)
    report = case.result(Role.MEASUREMENT_REPORT)
    lateralities = [item.ConceptCodeSequence[0].CodeValue for item in below(report, "272741003")]
    assert lateralities == ([expected] if expected else [])


def with_parts(*types: HemorrhageType) -> Case:
    """10 mL of each type, from 8 to 13."""
    case = phantom_case(30)
    part = HematomaPart(type=HemorrhageType.IPH, volume_ml=10.0, volume_low_ml=8.0, volume_high_ml=13.0)
    parts = tuple(replace(part, type=one) for one in types)
    case.hematoma = replace(measured(case.volume.grid, case.mask), parts=parts)
    return case


def test_each_type_of_hemorrhage_has_its_volume_with_both_ends_of_its_range() -> None:
    report = with_parts(HemorrhageType.IPH, HemorrhageType.IVH).result(Role.MEASUREMENT_REPORT)
    for concept in ("VOLIPH", "VOLIVH"):
        assert values(report, concept) == [(10, "ml"), (8, "ml"), (13, "ml")]
        derivations = [below(number, "121401") for number in below(report, concept)]
        stated = [found[0].ConceptCodeSequence[0].CodeValue if found else None for found in derivations]
        assert stated == [None, "STRICT", "LENIENT"]
    assert not below(report, "VOLSDH")
    assert next(number for number, _ in values(report, "118565006")) == pytest.approx(30, rel=0.05)  # the whole first


@pytest.mark.parametrize(
    ("types", "finding", "name"),
    [
        ((HemorrhageType.IPH, HemorrhageType.IVH), "274100004", "Intracerebral hematoma"),
        ((HemorrhageType.IPH, HemorrhageType.SDH), "1386000", "Intracranial hematoma"),
    ],
)
def test_blood_around_the_brain_is_not_called_cerebral(
    types: tuple[HemorrhageType, ...], finding: str, name: str
) -> None:
    case = with_parts(*types)
    for role in (Role.MEASUREMENT_REPORT, Role.OUTLINE_REPORT):
        (found,) = below(case.result(role), "121071")
        assert found.ConceptCodeSequence[0].CodeValue == finding
    report, segment = case.result(Role.MEASUREMENT_REPORT), case.result(Role.SEGMENTATION).SegmentSequence[0]
    assert below(report, finding)[0].ConceptCodeSequence[0].CodeValue == "373066001"  # Yes
    assert below(report, "112039")[0].TextValue == segment.TrackingID == name
    assert segment.SegmentLabel == f"{name} (AI)"


@pytest.mark.parametrize("hematoma_ml", [0, 30])
def test_a_caveat_is_a_comment_on_what_was_measured(hematoma_ml: float) -> None:
    case = phantom_case(hematoma_ml, followup=False)
    case.caveats = (Caveat.EIGHT_BIT,)
    comments = [item.TextValue for item in below(case.result(Role.MEASUREMENT_REPORT), "121106")]
    assert "HU estimated from an 8-bit export." in comments


def test_no_hematoma_is_said_in_a_report_that_does_not_name_one_as_finding() -> None:
    report = phantom_case(0).result(Role.MEASUREMENT_REPORT)
    (hemorrhage,) = below(report, "274100004")
    assert hemorrhage.ConceptCodeSequence[0].CodeValue == "373067005"  # No
    assert not below(report, "121071")  # Finding
    assert not below(report, "118565006")  # Volume
    assert below(report, "111001")[0].TextValue == MODEL.name
    assert below(report, "111028")  # Image Library


def test_an_interval_is_three_numbers_with_a_derivation_each(reports: dict[str, Dataset]) -> None:
    report = reports[Role.PREDICTION_REPORT]
    assert values(report, "HEPROB") == [(23, "%"), (12, "%"), (40, "%")]
    assert values(report, "HE3MLP") == [(31, "%"), (19, "%"), (47, "%")]
    for concept in ("HEPROB", "HE3MLP"):
        derivations = [below(num, "121401")[0].ConceptCodeSequence[0].CodeValue for num in below(report, concept)]
        assert derivations == ["PRED", "PREDLOWER", "PREDUPPER"]


def test_the_glasgow_coma_score_is_a_category_that_is_marked_as_estimated_from_the_image(
    reports: dict[str, Dataset],
) -> None:
    (category,) = below(reports[Role.PREDICTION_REPORT], "9269-2")
    assert category.ConceptCodeSequence[0].CodeValue == "GCS9TO12"
    assert below(category, "121401")[0].ConceptCodeSequence[0].CodeValue == "EST"
    assert values(reports[Role.PREDICTION_REPORT], "GCS8P") == [(11, "%"), (8, "%"), (14, "%")]


def test_the_risk_of_expansion_has_a_class(reports: dict[str, Dataset]) -> None:
    (risk,) = below(reports[Role.PREDICTION_REPORT], "HECLASS")
    assert risk.ConceptCodeSequence[0].CodeMeaning == "Moderate risk"


def test_each_number_stands_under_the_model_that_said_it(reports: dict[str, Dataset]) -> None:
    for group in groups(reports[Role.PREDICTION_REPORT]):
        (name,) = {item.TextValue for item in below(group, "111001")}
        assert name == (FOLLOWUP_MODEL.name if below(group, "HEPROB") else PROGNOSIS_MODEL.name)


def test_an_abstention_has_no_value_but_a_reason(reports: dict[str, Dataset]) -> None:
    (number,) = below(reports[Role.PREDICTION_REPORT], "POOR90P")
    assert not number.MeasuredValueSequence
    assert number.NumericValueQualifierCodeSequence[0].CodeValue == "114007"
    assert below(number, "121106")[0].TextValue == "no cohort to calibrate on"


def test_each_prediction_stands_under_its_own_point_in_time(reports: dict[str, Dataset]) -> None:
    time_points = {
        below(group, "C2348792")[0].TextValue: {code(item) for item in group.ContentSequence if item.ValueType == "NUM"}
        for group in groups(reports[Role.PREDICTION_REPORT])
    }
    assert time_points == {
        "24 h predicted": {"HEPROB", "HE3MLP", "VOL24H"},
        "time of the CT": {"GCS8P"},
        "90 d predicted": {"POOR90P"},
    }


def test_the_outline_encloses_the_largest_slice(reports: dict[str, Dataset], case: Case) -> None:
    report = reports[Role.OUTLINE_REPORT]
    (region,) = below(report, "111030")
    assert region.GraphicType == "POLYLINE"
    index = int(np.argmax(case.mask.sum(axis=(1, 2))))
    image = region.ContentSequence[0].ReferencedSOPSequence[0]
    assert image.ReferencedSOPInstanceUID == case.volume.grid.sop_instance_uids[index]
    contour = np.reshape(region.GraphicData, (-1, 2))
    assert enclosed_area(contour) == case.mask[index].sum()
    assert below(report, "112039")[0].TextValue == FREEHAND_TOOL


def test_beside_the_outline_stand_its_own_area_and_axes_and_the_volume_of_all_components() -> None:
    case = phantom_case(0, followup=False)
    height, width = case.volume.grid.pixel_spacing_mm
    case.mask = np.zeros(case.volume.grid.shape, bool)
    case.mask[10, 30:42, 40:60] = True  # 12 rows x 20 columns
    case.mask[10, 33:36, 45:47] = False  # a hole, which the outline encloses
    case.mask[10, 80:90, 70:78] = True
    report = case.result(Role.OUTLINE_REPORT)
    (region,) = below(report, "111030")
    area = 12 * 20
    assert enclosed_area(np.reshape(region.GraphicData, (-1, 2))) == area
    assert values(report, "42798000") == [(pytest.approx(area * height * width), "mm2")]
    ((long_axis, _),) = values(report, "103339001")
    ((short_axis, _),) = values(report, "103340004")
    assert long_axis == pytest.approx(np.hypot(20 * width, 11 * height), rel=0.02)
    assert 12 * height < short_axis < long_axis
    volume_ml = case.volume.grid.volume_ml(case.mask)
    assert values(report, "118565006") == [(pytest.approx(volume_ml, abs=0.01), "ml")]


def enclosed_area(contour: np.ndarray) -> float:
    """Shoelace formula, in pixels."""
    (x, y), (next_x, next_y) = contour[:-1].T, contour[1:].T
    return abs(float(np.sum(x * next_y - next_x * y))) / 2


@given(st_numpy.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))).filter(np.any))
def test_an_outer_contour_encloses_one_component_and_its_holes(mask: Mask) -> None:
    region = outlined_region(mask)
    contour = outer_contour(region)
    assert (contour[0] == contour[-1]).all()
    steps = np.diff(contour, axis=0)
    assert (np.count_nonzero(steps, axis=1) == 1).all()  # along pixel edges only
    inside = [(r, c) for r, c in np.ndindex(mask.shape) if is_inside(contour, c + 0.5, r + 0.5)]
    assert len(inside) == enclosed_area(contour)
    assert inside == [pixel for pixel in np.ndindex(mask.shape) if region[pixel]]
    assert any(mask[pixel] for pixel in inside)


def is_inside(contour: np.ndarray, x: float, y: float) -> bool:
    """Even-odd rule with a ray to the left."""
    crossings = [a[0] < x and min(a[1], b[1]) < y < max(a[1], b[1]) for a, b in itertools.pairwise(contour)]
    return bool(sum(crossings) % 2)


def test_a_report_after_late_slices_names_the_one_that_it_replaces() -> None:
    case = phantom_case(30)
    predecessor = PredecessorReport(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
        study_instance_uid="2.25.3",
    )
    case.context = replace(CONTEXT, predecessor=predecessor)
    (study,) = case.result(Role.MEASUREMENT_REPORT).PredecessorDocumentsSequence
    document = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert document.ReferencedSOPInstanceUID == "2.25.1"
    assert "PredecessorDocumentsSequence" not in case.result(Role.OUTLINE_REPORT)


@pytest.mark.parametrize("reason", [Reason.MISSING_SLICES, Reason.MIXED_FRAME_OF_REFERENCE])
def test_a_series_that_was_not_analysed_is_reported_with_the_reason(reason: Reason) -> None:
    case = phantom_case(0)
    source = case.sources[0]
    for keyword in ("ImagePositionPatient", "PatientBirthDate", "FrameOfReferenceUID"):
        del source[keyword]
    evidence = tuple((s.SOPClassUID, s.SOPInstanceUID) for s in case.sources)
    result = compose_not_analysed(
        source=source, evidence=evidence, reason=reason, detail="gap of 10 mm", profile=PROFILE, context=CONTEXT
    )
    assert result.role == Role.MEASUREMENT_REPORT
    (stated,) = below(result.dataset, "NOTANALYSED")
    answer = stated.ConceptCodeSequence[0]
    assert answer.get("CodeValue", answer.get("LongCodeValue")) == reason.upper()
    assert below(result.dataset, "ANALYSED")[0].ConceptCodeSequence[0].CodeValue == "373067005"  # No
    assert "gap of 10 mm" in below(result.dataset, "121106")[0].TextValue
    assert below(result.dataset, "RUO")
    referenced = result.dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(referenced.ReferencedSOPSequence) == len(evidence)


def test_another_reason_gives_another_report() -> None:
    source = phantom_case(0).sources[0]
    evidence = ((source.SOPClassUID, source.SOPInstanceUID),)
    uids = {
        compose_not_analysed(
            source=source, evidence=evidence, reason=reason, detail="", profile=PROFILE, context=CONTEXT
        ).dataset.SOPInstanceUID
        for reason in (Reason.NO_BRAIN, Reason.PARTIAL_HEAD)
    }
    assert len(uids) == 2


def test_dcmqi_reads_volume_and_units_from_the_report(tmp_path: Path, case: Case, reports: dict[str, Dataset]) -> None:
    reader = shutil.which("tid1500reader") or shutil.which(".venv/bin/tid1500reader")
    if reader is None:
        pytest.skip("tid1500reader (dcmqi) is not installed")
    report = save(Result(role="sr", dataset=reports[Role.MEASUREMENT_REPORT]), tmp_path / "sr.dcm")
    command = [reader, "--inputDICOM", str(report), "--outputMetadata", str(tmp_path / "sr.json")]
    subprocess.run(command, check=True, capture_output=True)
    (group,) = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    assert group["ReferencedSegment"] == 1
    first = group["measurementItems"][0]
    assert (first["quantity"]["CodeValue"], first["units"]["CodeValue"]) == ("118565006", "ml")
    assert float(first["value"]) == pytest.approx(case.volume.grid.volume_ml(case.mask), abs=0.01)
