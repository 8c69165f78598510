"""Facts come from the files: tags that the rules name, and the frames of an Enhanced CT."""

from dataclasses import replace

import pytest

from ichnode.domain.reasons import Reason
from ichnode.domain.rules import Rule, parse_match
from ichnode.domain.study import StudySnapshot
from ichnode.phantom import REGULAR, head_ct
from ichnode.stages.decide import decide_study
from tests.series_factory import enhanced_ct, stored_series

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
