"""Rules decide on tags and on what ichnode computes, and every series gets a reason."""

import re
from dataclasses import replace

import pytest

from ichnode.domain.facts import SeriesFacts, kernel_class
from ichnode.domain.reasons import Reason
from ichnode.domain.rules import Rule, decide, parse_match

BRAIN_5_MM = SeriesFacts(
    series_instance_uid="1.5",
    series_number=5,
    sop_class_analysable=True,
    own_results=False,
    localizer=False,
    derived=False,
    one_patient=True,
    slice_count=30,
    thickness=5.0,
    spacing=5.0,
    coverage=150.0,
    tilt=0.0,
    kernel_class="soft",
    contrast=False,
    head=True,
    tags={"Modality": "CT", "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"), "SeriesDescription": "Brain STD"},
)
BRAIN_1_MM = replace(BRAIN_5_MM, series_instance_uid="1.1", series_number=1, thickness=1.0, slice_count=150)


def rule(match=None, **fields):
    return Rule(
        **{"name": "r", "match": parse_match(match or {}, str.isalpha), "run": ("hematoma",), "send_to": ("pacs",)}
        | fields
    )


def decision_of(facts, *rules):
    return decide([facts], rules or (rule(),))[0]


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"Modality": "CT"}, True),
        ({"Modality": "MR"}, False),
        ({"ImageType": "AXIAL"}, True),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, True),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, False),
        ({"Modality": {"in": ["MR", "CT"]}}, True),
        ({"SeriesDescription": {"regex": "(?i)brain"}}, True),
        ({"SeriesDescription": {"regex": "^brain"}}, False),
        ({"thickness": {"range": [0.5, 6]}}, True),
        ({"thickness": {"range": [0.5, 4.9]}}, False),
        ({"thickness": 5}, True),
        ({"ContrastBolusAgent": {"exists": False}}, True),
        ({"SeriesDescription": {"exists": True}}, True),
        ({"AccessionNumber": {"exists": True}}, False),
        ({"Modality": {"not": "CT"}}, False),
        ({"Modality": {"not": "MR"}}, True),
        ({"AccessionNumber": {"not": "X"}}, True),
        ({"SeriesDescription": {"not": {"regex": "(?i)bone"}}}, True),
        ({"thickness": {"range": [1, 6], "not": 5}}, False),
        ({"head": True}, True),
        ({"head": False}, False),
        ({"tilt": {"range": [0, 30]}, "coverage": {"range": [100, 300]}, "kernel_class": "soft"}, True),
    ],
)
def test_a_clause_holds_or_not(match, fits):
    assert decision_of(BRAIN_5_MM, rule(match)).analyse is fits


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"own_results": True}, Reason.OWN_RESULT),
        ({"sop_class_analysable": False}, Reason.NOT_CT_IMAGE),
        ({"localizer": True}, Reason.LOCALIZER),
        ({"one_patient": False}, Reason.MIXED_PATIENTS),
        ({"derived": True}, Reason.DERIVED),
        ({"kernel_class": "bone"}, Reason.BONE_KERNEL),
        ({"contrast": True}, Reason.CONTRAST),
        ({"head": False}, Reason.NOT_HEAD),
        ({"slice_count": 7}, Reason.TOO_FEW_SLICES),
    ],
)
def test_a_rule_without_match_takes_only_plain_head_ct_and_says_why_not(change, reason):
    decision = decision_of(replace(BRAIN_5_MM, **change))
    assert (decision.analyse, decision.reason) == (False, reason)
    assert decision.detail


def test_naming_a_field_replaces_its_implied_clause():
    bone = replace(BRAIN_5_MM, kernel_class="bone")
    assert not decision_of(bone).analyse
    assert decision_of(bone, rule({"kernel_class": "bone"})).analyse


def test_of_a_thick_and_a_thin_series_the_thick_one_is_preferred():
    thin, thick = decide([BRAIN_1_MM, BRAIN_5_MM], [rule()])
    assert (thin.reason, thick.reason) == (Reason.BETTER_SERIES, Reason.CHOSEN)
    assert "series 5" in thin.detail


def test_the_preferred_thickness_can_be_set():
    thin, thick = decide([BRAIN_1_MM, BRAIN_5_MM], [rule(prefer_thickness_mm=1.0)])
    assert (thin.analyse, thick.analyse) == (True, False)


def test_a_soft_kernel_is_preferred_to_an_unknown_one():
    unknown = replace(BRAIN_5_MM, series_instance_uid="1.9", kernel_class="unknown", coverage=160.0)
    assert [d.analyse for d in decide([unknown, BRAIN_5_MM], [rule()])] == [False, True]


def test_the_cerebrum_is_preferred_to_a_skull_base_of_its_own():
    base = replace(BRAIN_5_MM, series_instance_uid="1.2", series_number=2, coverage=45.0)
    cerebrum = replace(BRAIN_5_MM, series_instance_uid="1.3", series_number=3, thickness=8.0, coverage=90.0)
    assert [d.reason for d in decide([base, cerebrum], [rule()])] == [Reason.BETTER_SERIES, Reason.CHOSEN]


def test_the_first_rule_that_matches_takes_the_series():
    first, second = rule({"thickness": {"range": [2, 6]}}, name="first"), rule(name="second")
    assert decision_of(BRAIN_5_MM, first, second).rule is first
    assert decision_of(BRAIN_1_MM, first, second).rule is second


def test_without_a_matching_rule_the_closest_one_and_its_clause_are_named():
    decision = decision_of(BRAIN_1_MM, rule({"thickness": {"range": [2, 6]}}, name="thick"))
    assert decision.reason is Reason.NO_RULE
    assert decision.detail == "thickness is 1; rule thick wants thickness range (2, 6)"


def test_an_ignored_head_is_reported_only_when_nothing_of_the_study_is_analysed():
    bone = replace(BRAIN_5_MM, series_instance_uid="1.3", kernel_class="bone")
    wanting = rule(report_ignored=True)
    assert [d.report for d in decide([bone], [wanting])] == [True]
    assert [d.report for d in decide([bone, BRAIN_5_MM], [wanting])] == [False, False]
    other = rule({"thickness": {"range": [4, 6]}}, name="other")
    bone_1_mm = replace(bone, thickness=1.0)
    assert [d.report for d in decide([BRAIN_5_MM, bone_1_mm], [other, wanting])] == [False, False]


def test_a_clause_reads_as_it_was_written():
    (clause,) = parse_match({"SeriesDescription": {"not": {"regex": "(?i)bone"}}}, str.isalpha)
    assert str(clause) == "SeriesDescription not SeriesDescription regex '(?i)bone'"


@pytest.mark.parametrize(
    ("match", "problem"),
    [
        ({"Slice Thickness": 5}, "is neither a DICOM keyword"),
        ({"Modality": {"like": "CT"}}, "unknown operator 'like'"),
        ({"Modality": {"regex": "("}}, "not a regular expression"),
        ({"thickness": {"range": [6, 1]}}, "range [6, 1] holds nothing"),
        ({"thickness": {"range": 5}}, "range wants two numbers"),
        ({"Modality": {"in": "CT"}}, "in wants a list"),
        ({"Modality": "ct"}, "'ct' is in capitals"),
        ({"Modality": {"in": [["CT"]]}}, "['CT'] is no text"),
        ({"Modality": {"not": "Ct"}}, "'Ct' is in capitals"),
        ({"Modality": {"exists": "yes"}}, "exists wants true or false"),
        ({"Modality": {"not": {"regex": "("}}}, "not a regular expression"),
    ],
)
def test_a_match_that_cannot_be_read_names_field_and_problem(match, problem):
    with pytest.raises(ValueError, match=f"^{next(iter(match))}: .*{re.escape(problem.split()[0])}") as raised:
        parse_match(match, str.isalpha)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"ConvolutionKernel": ("H31s",)}, "soft"),
        ({"ConvolutionKernel": ("H60s",)}, "bone"),
        ({"ConvolutionKernel": ("Hr64h", "3")}, "bone"),
        ({"ConvolutionKernel": ("STD+",)}, "soft"),
        ({"ConvolutionKernel": ("BONEPLUS",)}, "bone"),
        ({"ConvolutionKernel": ("FC26",)}, "soft"),
        ({"ConvolutionKernel": ("FC30",)}, "bone"),
        ({"ConvolutionKernel": ("UB",)}, "soft"),
        ({"ConvolutionKernel": ("YA",)}, "bone"),
        ({"ConvolutionKernel": ("HD BONE",), "WindowWidth": 80.0}, "bone"),
        ({"ConvolutionKernel": ("B_SHARP_C",), "WindowWidth": 80.0}, "bone"),
        ({"ConvolutionKernel": ("B_SOFT_B",), "WindowWidth": 2000.0}, "soft"),
        ({"SeriesDescription": "Head bone 1mm"}, "bone"),
        ({"WindowWidth": (2500.0, 2500.0)}, "bone"),
        ({"WindowWidth": (80.0,)}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_the_kernel_class_follows_vendor_names_then_words_then_the_display_window(header, expected):
    assert kernel_class(header) == expected
