"""A study is complete on evidence, and the evidence has a name."""

from dataclasses import replace

import pytest

from ichnode.domain.sop_classes import CT_IMAGE
from ichnode.domain.study import Arrival, Evidence, Instance, Series, StudySnapshot, evidence_of_completeness, wholeness

T0 = 1_000_000.0


def ct_slice(number, *, z=None, association=1, **header):
    return Instance(
        sop_instance_uid=f"1.2.{number}",
        sop_class_uid=CT_IMAGE,
        series_instance_uid="1.1",
        study_instance_uid="1",
        transfer_syntax_uid="1.2.840.10008.1.2",
        file="/none",
        association_id=association,
        header={
            "ImagePositionPatient": (0.0, 0.0, 5.0 * number if z is None else z),
            "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            "SliceThickness": 5.0,
            "InstanceNumber": number,
            **header,
        },
    )


def study(instances):
    series = Series(series_instance_uid="1.1", study_instance_uid="1", instances=tuple(instances))
    return StudySnapshot(study_instance_uid="1", series=(series,))


HEAD = [ct_slice(n) for n in range(1, 31)]


def evidence(instances, *, quiet_for, since_first=None, unreleased=False):
    now = T0 + (since_first or quiet_for)
    arrival = Arrival(first_received_at=T0, last_received_at=now - quiet_for, unreleased=unreleased)
    return evidence_of_completeness(wholeness(study(instances)), arrival, now=now, quiet_s=10, max_wait_s=600)


def test_nothing_is_complete_while_instances_come_in():
    assert evidence(HEAD, quiet_for=1, unreleased=True) is None


def test_a_gapless_head_is_complete_soon_after_its_association_was_released():
    assert evidence(HEAD, quiet_for=1.9) is None
    assert evidence(HEAD, quiet_for=2.1) is Evidence.GAPLESS_GEOMETRY


def test_an_open_or_aborted_association_leaves_it_to_the_quiet_timer():
    assert evidence(HEAD, quiet_for=9, unreleased=True) is None
    assert evidence(HEAD, quiet_for=10, unreleased=True) is Evidence.QUIET


@pytest.mark.parametrize(
    "instances",
    [
        HEAD[:14] + HEAD[15:],  # a hole
        HEAD[1:],  # numbers do not begin at 1
        HEAD[:7],  # too few
        [replace(i, association_id=n) for n, i in enumerate(HEAD)],  # one association an instance
    ],
)
def test_a_released_association_alone_proves_nothing(instances):
    assert evidence(instances, quiet_for=9) is None
    assert evidence(instances, quiet_for=10) is Evidence.QUIET


def test_slices_of_two_thicknesses_that_touch_are_gapless():
    thin = [ct_slice(n, z=4.0 * n, SliceThickness=4.0) for n in range(1, 15)]
    thick = [ct_slice(n, z=57.0 + 7.0 * (n - 15), SliceThickness=7.0) for n in range(15, 29)]
    assert evidence(thin + thick, quiet_for=3) is Evidence.GAPLESS_GEOMETRY


def test_the_declared_count_of_the_study_closes_it_at_once():
    counted = [replace(i, header={**i.header, "NumberOfStudyRelatedInstances": 30}) for i in HEAD]
    assert evidence(counted, quiet_for=0.1, unreleased=True) is Evidence.EXPECTED_COUNT
    assert evidence(counted[:-1], quiet_for=60) is None


def test_declared_counts_of_series_close_the_study_only_after_a_release_because_another_series_may_follow():
    counted = [replace(i, header={**i.header, "NumberOfSeriesRelatedInstances": 30}) for i in HEAD[:14] + HEAD[15:]]
    counted.append(replace(counted[0], sop_instance_uid="1.2.99"))  # 30 instances, with a hole
    assert evidence(counted, quiet_for=3, unreleased=True) is None
    assert evidence(counted, quiet_for=0.1) is None
    assert evidence(counted, quiet_for=3) is Evidence.EXPECTED_COUNT


def test_a_declared_count_that_is_not_met_outlasts_the_quiet_timer():
    counted = [replace(i, header={**i.header, "NumberOfSeriesRelatedInstances": 31}) for i in HEAD]
    assert evidence(counted, quiet_for=60) is None
    assert evidence(counted, quiet_for=60, since_first=600) is Evidence.MAX_WAIT


def test_images_in_acquisition_proves_presence_but_not_absence():
    met = [replace(i, header={**i.header, "ImagesInAcquisition": 30}) for i in HEAD]
    unmet = [replace(i, header={**i.header, "ImagesInAcquisition": 90}) for i in HEAD]
    assert evidence(met, quiet_for=3) is Evidence.EXPECTED_COUNT
    assert evidence(unmet, quiet_for=10, unreleased=True) is Evidence.QUIET


def test_a_study_that_never_rests_is_taken_after_the_longest_wait():
    assert evidence(HEAD, quiet_for=0.1, since_first=601, unreleased=True) is Evidence.MAX_WAIT
