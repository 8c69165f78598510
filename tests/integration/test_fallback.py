"""A PACS that refuses Segmentation or 3D SR has the summary page instead: over real sockets, in a real ledger."""

from functools import partial

import pytest
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage, SecondaryCaptureImageStorage, SegmentationStorage

from ichnode.dicom.scu import Outgoing
from ichnode.dicom.stow import StowService, store
from ichnode.domain.job import JobState
from ichnode.metrics import Metrics
from ichnode.storage.ledger import Ledger
from ichnode.storage.overview import Overview
from ichnode.web.destinations import list_of_destinations
from tests.delivery_factory import NOW, Delivering
from tests.pacs import CommittingPacs
from tests.series_factory import altered, part10, phantom_datasets
from tests.stow_server import StowServer

DAY_S = 86_400
SEG, SR, SC = SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage


@pytest.fixture
def results_of(tmp_path):
    """Files of the given SOP classes; of Secondary Capture, the first is the summary page."""

    def results_of(*classes):
        objects = []
        for dataset, sop_class in zip(phantom_datasets(), classes, strict=False):
            file = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
            file.write_bytes(part10(altered(dataset, SOPClassUID=sop_class)))
            uid = dataset.SOPInstanceUID
            objects.append(Outgoing(sop_class_uid=sop_class, sop_instance_uid=uid, file=str(file)))
        return objects

    return results_of


def states(delivering):
    return [state for state, _ in delivering.deliveries()]


def deliver(delivering):
    while delivering.stage.turn():
        pass
    return states(delivering), delivering.job_state()


@pytest.mark.parametrize("status", [None, 0x0122, 0xA900, 0xC000])
def test_a_refused_class_does_not_fail_the_job_where_the_summary_page_arrives(engine, results_of, status):
    pacs = CommittingPacs(takes=[SR, SC] if status is None else [SEG, SR, SC])
    if status:
        pacs.statuses = {SEG: status}
    with pacs:
        delivering = Delivering(engine, results_of(SEG, SR, SC), pacs.port)
        assert deliver(delivering) == (["replaced", "delivered", "delivered"], JobState.DONE)
    (refused,) = delivering.refused.all()
    assert (refused.destination, refused.sop_class_uid, refused.status) == ("pacs", SEG, status)
    assert (refused.refused_at, refused.job_id) == (NOW, delivering.job_id)
    story = delivering.history.events(delivering.job_id)[-1].detail
    assert story == "every destination took every result, but 1 replaced"


def test_later_jobs_do_not_offer_it_again_for_a_week(engine, results_of):
    objects = results_of(SEG, SR, SC)
    with CommittingPacs() as pacs:
        pacs.statuses = {SEG: 0xC000}
        delivering = Delivering(engine, objects, pacs.port)
        deliver(delivering)
        offered = len(pacs.offered)
        delivering.now += 6 * DAY_S
        delivering.open_job(objects)
        assert deliver(delivering)[1] is JobState.DONE
        assert pacs.offered[offered:] == [SR, SC]
        assert delivering.deliveries()[0] == ("replaced", 0)
        assert "not offered: 0xC000" in delivering.outbox.of_job(delivering.job_id)[0].error
        delivering.now += 2 * DAY_S
        delivering.open_job(objects)
        deliver(delivering)
        assert pacs.offered[offered + 2 :] == [SEG, SR, SC]
    assert delivering.refused.all()[0].refused_at == delivering.now, "and then for a week from now"


def test_an_administrator_has_it_offered_again_and_what_is_taken_is_forgotten(engine, results_of):
    objects = results_of(SEG, SC)
    with CommittingPacs() as pacs:
        pacs.statuses = {SEG: 0x0122}
        delivering = Delivering(engine, objects, pacs.port)
        deliver(delivering)
        assert delivering.refused.reset("pacs") == 1
        pacs.statuses = {}
        delivering.open_job(objects)
        assert deliver(delivering) == (["delivered", "delivered"], JobState.DONE)


def test_what_is_taken_after_its_time_is_no_longer_refused(engine, results_of):
    objects = results_of(SEG, SC)
    with CommittingPacs() as pacs:
        pacs.statuses = {SEG: 0x0122}
        delivering = Delivering(engine, objects, pacs.port)
        deliver(delivering)
        pacs.statuses = {}
        delivering.now += 8 * DAY_S
        delivering.open_job(objects)
        assert deliver(delivering) == (["delivered", "delivered"], JobState.DONE)
    assert delivering.refused.all() == []


def test_without_a_summary_page_a_refusal_fails_the_job(engine, results_of):
    with CommittingPacs(takes=[CTImageStorage]) as pacs:
        delivering = Delivering(engine, results_of(SEG, CTImageStorage), pacs.port)
        assert deliver(delivering) == (["refused", "delivered"], JobState.FAILED)
    assert delivering.refused.all() == []


def test_a_destination_that_refuses_the_summary_page_too_fails_the_job(engine, results_of):
    with CommittingPacs(takes=[SR]) as pacs:
        delivering = Delivering(engine, results_of(SEG, SR, SC), pacs.port)
        assert deliver(delivering) == (["refused", "delivered", "refused"], JobState.FAILED)


def test_a_destination_that_takes_nothing_fails_the_job(engine, results_of):
    with CommittingPacs(takes=[CTImageStorage]) as pacs:
        delivering = Delivering(engine, results_of(SEG, SR, SC), pacs.port)
        assert deliver(delivering) == (["refused"] * 3, JobState.FAILED)
    assert delivering.refused.all() == [], "it is wrongly configured, and may take everything tomorrow"


def test_a_summary_page_that_comes_later_still_stands_in(engine, results_of):
    with CommittingPacs(takes=[SR, SC]) as pacs:
        pacs.statuses = {SC: 0xA700}
        delivering = Delivering(engine, results_of(SEG, SR, SC), pacs.port)
        assert deliver(delivering) == (["replaced", "delivered", "pending"], JobState.DELIVERING)
        pacs.statuses = {}
        delivering.now += 8
        assert deliver(delivering)[1] is JobState.DONE


def test_a_summary_page_that_never_comes_leaves_the_refusal_and_retry_revives_both(engine, results_of):
    with CommittingPacs(takes=[SR, SC]) as pacs:
        pacs.statuses = {SC: 0xA700}
        delivering = Delivering(engine, results_of(SEG, SR, SC), pacs.port)
        for _ in range(3):
            deliver(delivering)
            delivering.now += 100
        assert deliver(delivering) == (["refused", "delivered", "dead"], JobState.FAILED)
        pacs.statuses = {}
        Ledger(engine).retry(delivering.job_id, at=delivering.now, who="somebody")
        assert deliver(delivering) == (["replaced", "delivered", "delivered"], JobState.DONE)


def test_a_class_of_which_instances_were_taken_is_not_refused_for_one_that_was_not(engine, results_of):
    objects = results_of(SEG, SC)
    with CommittingPacs() as pacs:
        delivering = Delivering(engine, objects, pacs.port)
        deliver(delivering)
        pacs.statuses = {SEG: 0xC000}
        delivering.open_job(objects)
        assert deliver(delivering) == (["refused", "delivered"], JobState.FAILED)
    assert delivering.refused.all() == []


def test_without_fallback_every_refusal_fails_its_job(engine, results_of):
    with CommittingPacs(takes=[SC]) as pacs:
        delivering = Delivering(engine, results_of(SEG, SC), pacs.port, fallback=False)
        assert deliver(delivering) == (["refused", "delivered"], JobState.FAILED)
    assert delivering.refused.all() == []


def test_a_dicomweb_archive_may_refuse_a_class_too(engine, results_of):
    objects = results_of(SEG, SC)
    with StowServer() as server:
        server.refused = {objects[0].sop_instance_uid: 0x0122}
        delivering = Delivering(engine, objects, sender=partial(store, StowService(url=server.url)))
        assert deliver(delivering) == (["replaced", "delivered"], JobState.DONE)


def test_it_is_shown_to_people_and_to_prometheus(engine, results_of):
    with CommittingPacs(takes=[SC]) as pacs:
        delivering = Delivering(engine, results_of(SEG, SC), pacs.port)
        deliver(delivering)
    overview = Overview(engine)
    pacs, archive = list_of_destinations(["pacs", "archive"], delivering.outbox, overview, delivering.refused)
    assert (pacs["name"], pacs["waiting"]) == ("pacs", 0)
    (refused,) = pacs["refused_classes"]
    assert refused["detail"] == "the destination refuses this SOP class"
    assert archive["refused_classes"] == []
    metrics = Metrics(
        sources=[],
        count_jobs=dict,
        refused_classes=lambda: [(r.destination, r.sop_class_uid) for r in delivering.refused.all()],
    )
    line = f'ichnode_sop_class_refused{{destination="pacs",sop_class_uid="{SEG}"}} 1.0'
    assert line in metrics.page().decode()
