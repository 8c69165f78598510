"""Facts come from the files: tags that the rules name, and the frames of an Enhanced CT."""

import struct
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from ichnode.domain.reasons import Reason
from ichnode.domain.rules import Rule, parse_match
from ichnode.domain.study import StudySnapshot
from ichnode.phantom import REGULAR, head_ct
from ichnode.stages.decide import decide_study
from tests.series_factory import altered, enhanced_ct, stored_series

DATASETS = head_ct(hematoma_ml=0, geometry=replace(REGULAR, rows=16, columns=16)).datasets
BRAIN = {"Modality": "CT", "SliceThickness": {"range": [0.5, 6]}, "SeriesDescription": {"regex": "(?i)brain"}}


def decided(series, match):
    rule = Rule(name="r", match=parse_match(match, str.isalpha), run=("hematoma",), send_to=())
    snapshot = StudySnapshot(study_instance_uid=series.study_instance_uid, series=(series,))
    return decide_study(snapshot, [rule])[0]


@pytest.mark.parametrize("make", [list, lambda datasets: [enhanced_ct(datasets)]], ids=["single frames", "enhanced"])
def test_a_rule_sees_tags_and_geometry_whether_slices_are_instances_or_frames(make, tmp_path):
    facts, decision = decided(stored_series(make(DATASETS), tmp_path), BRAIN)
    assert decision.analyse, decision.detail
    assert (facts.slice_count, facts.thickness, facts.spacing) == (32, 5.0, 5.0)
    assert facts.coverage == pytest.approx(160)


def test_a_tag_that_the_file_does_not_have_is_absent(tmp_path):
    _, decision = decided(stored_series(list(DATASETS), tmp_path), {"ProtocolName": "HEAD"})
    assert (decision.reason, decision.detail) == (
        Reason.NO_RULE,
        "ProtocolName is absent; rule r wants ProtocolName equals 'HEAD'",
    )


@pytest.mark.parametrize(("tag", "vr"), [(0x00080005, b"US"), (0x00100040, b"FD")], ids=["charset", "of the rule"])
def test_what_cannot_be_decoded_is_absent_and_keeps_no_study_from_its_decision(tag, vr, tmp_path):
    datasets = [copy(dataset) for dataset in DATASETS]
    datasets[0].PatientSex = "F"
    series = stored_series(datasets, tmp_path)
    first = Path(series.instances[0].file)
    sound, garbled = (struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, either) for either in (b"CS", vr))
    assert first.read_bytes().count(sound) == 1
    first.write_bytes(first.read_bytes().replace(sound, garbled))
    _, decision = decided(series, {"PatientSex": "F"})
    assert (decision.reason, decision.detail.split(";")[0]) == (Reason.NO_RULE, "PatientSex is absent")


@pytest.mark.parametrize("description", ["Iodine map", "HEAD MIP 5.0", "MinIP", "Head VNC", "Virtual non-contrast"])
def test_what_a_description_calls_derived_is_so_though_the_image_type_says_original(description, tmp_path):
    datasets = [altered(dataset, SeriesDescription=description) for dataset in DATASETS]
    _, decision = decided(stored_series(datasets, tmp_path), {})
    assert decision.reason is Reason.DERIVED


def test_a_number_of_frames_below_one_counts_as_one(tmp_path):
    datasets = [altered(dataset, NumberOfFrames=-1) for dataset in DATASETS]
    facts, _ = decided(stored_series(datasets, tmp_path), {})
    assert facts.slice_count == len(datasets)
