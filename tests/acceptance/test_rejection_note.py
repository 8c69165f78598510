"""Receivers that share no code with ichnode take rejection notes, each in its own way."""

from pathlib import Path

import pytest
from pydicom.uid import SegmentationStorage

from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.dicom.stow import StowService, store
from ichnode.domain.judgement import RejectReason
from ichnode.results.rejection_note import compose_rejection_note
from tests.acceptance.dcmtk import storescp
from tests.acceptance.orthanc import Orthanc
from tests.iocm_archive import NO_SUCH_INSTANCE, IocmArchive
from tests.results_factory import CONTEXT, PROFILE, phantom_case, save


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[list[Outgoing], Outgoing]:
    """Results, and the note that rejects them."""
    folder, case = tmp_path_factory.mktemp("files"), phantom_case(30)
    results = case.results()
    note = compose_rejection_note(
        results[0].dataset,
        [(str(r.dataset.SeriesInstanceUID), r.dataset.SOPClassUID, str(r.dataset.SOPInstanceUID)) for r in results],
        reason=RejectReason.FALSE_ALARM,
        destinations=("pacs",),
        models=(case.model,),
        profile=PROFILE,
        context=CONTEXT,
    )
    return [outgoing(result, folder) for result in results], outgoing(note, folder)


def outgoing(result, folder: Path) -> Outgoing:
    uid = str(result.dataset.SOPInstanceUID)
    file = save(result, folder / f"{uid}.dcm")
    return Outgoing(sop_class_uid=result.dataset.SOPClassUID, sop_instance_uid=uid, file=str(file))


def statuses(port, objects, ae_title="PACS"):
    peer = Peer(ae_title=ae_title, host="127.0.0.1", port=port)
    return [o.status for known in send(peer, objects, calling_ae_title="HARNESS") for o in known]


def test_an_archive_that_follows_iocm_shows_the_results_no_more(files):
    results, note = files
    with IocmArchive({result.sop_class_uid for result in results}) as archive:
        assert set(statuses(archive.port, results)) == {0x0000}
        assert statuses(archive.port, [note]) == [0x0000]
        assert archive.shown == {}
        assert set(archive.hidden.values()) == {"113037"}


def test_such_an_archive_refuses_a_note_about_what_it_does_not_have(files):
    results, note = files
    taken = [result for result in results if result.sop_class_uid != SegmentationStorage]
    with IocmArchive({result.sop_class_uid for result in taken}) as archive:
        statuses(archive.port, taken)
        assert statuses(archive.port, [note]) == [NO_SUCH_INSTANCE]  # why each destination gets a note of its own
        assert len(archive.shown) == len(taken)


def test_orthanc_keeps_the_note_as_one_more_object_and_the_results_beside_it(files, tmp_path):
    results, note = files
    with Orthanc(tmp_path / "orthanc") as orthanc:
        assert set(statuses(orthanc.dicom_port, [*results, note], orthanc.ae_title)) == {0x0000}
        assert orthanc.get("statistics")["CountInstances"] == len(results) + 1
        ((by_stow,),) = store(StowService(url=orthanc.dicomweb_url), [note])
        assert by_stow.status == 0x0000 or by_stow.status is None
        assert orthanc.get("statistics")["CountInstances"] == len(results) + 1


def test_dcmtk_takes_the_note(files, tmp_path):
    _, note = files
    with storescp(tmp_path / "received") as port:
        assert statuses(port, [note], "STORESCP") == [0x0000]
    assert len(list((tmp_path / "received").iterdir())) == 1
