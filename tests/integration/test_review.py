"""The review page and its pictures over HTTP, for every kind of source and for jobs without anything to show."""

import socket
import subprocess
import sys
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from queue import Queue
from threading import Event
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from ichnode.config import Settings
from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.domain.findings import Caveat
from ichnode.domain.job import JobState
from ichnode.imaging.windows import BLOOD, BRAIN, apply
from ichnode.phantom import REGULAR, TILTED, head_ct
from ichnode.results.provenance import Role
from ichnode.storage.audit import AuditTrail
from ichnode.storage.judgements import Judgements
from ichnode.web import review
from ichnode.web import shown as shown_module
from ichnode.web.slices import outline
from tests.judgement_factory import ACCEPTED, REJECTED
from tests.results_factory import Case
from tests.reviewed_clinic import VIEWER, ReviewedClinic, page_of
from tests.series_factory import altered, enhanced_ct

SMALL = replace(REGULAR, rows=64, columns=64)
FORMS = {
    "regular": (SMALL, ExplicitVRLittleEndian),
    "tilted, JPEG 2000": (replace(TILTED, rows=64, columns=64), JPEG2000Lossless),
    "oblong, JPEG-LS": (replace(REGULAR, rows=60, columns=72), JPEGLSLossless),
}


@pytest.fixture
def clinic(sqlite_engine, tmp_path):
    clinic = ReviewedClinic(sqlite_engine, tmp_path)
    yield clinic
    clinic.close()


@cache
def composed(form):
    """A phantom in a form, its case and results; composing them takes seconds."""
    phantom = head_ct(hematoma_ml=30, geometry=FORMS[form][0])
    case = Case(phantom.datasets, phantom.hematoma)
    return phantom.datasets, case, case.results()


@pytest.fixture
def reviewed(clinic):
    """Receives a phantom in a form, upside down, and analyses it; the case and its job."""

    def receive(form="regular", **alterations):
        datasets, case, results = composed(form)
        clinic.receive_datasets([altered(dataset, **alterations) for dataset in datasets[::-1]], FORMS[form][1])
        clinic.decide_on(datasets[0])
        return case, clinic.finish_with(case, results)

    return receive


def pixels(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(BytesIO(answer.content)))


@pytest.mark.parametrize("form", FORMS)
def test_every_picture_shows_the_slice_that_it_is_asked_for(clinic, reviewed, form):
    case, job = reviewed(form)
    browser, slices = clinic.browser(), f"{page_of(job)}/slices"
    key = int(case.mask.sum(axis=(1, 2)).argmax())
    assert f'data-start="{key}"' in browser.get(page_of(job)).text
    for index in (0, key, len(case.mask) - 1):
        shown = pixels(browser.get(f"{slices}/{index}/source-brain.png"))
        assert (shown == apply(case.volume.hu[index], BRAIN)).all()
    shown = pixels(browser.get(f"{slices}/{key}/predicted-blood.png"))
    assert (shown == apply(case.prediction.followup.hu[key], BLOOD)).all()
    assert pixels(browser.get(f"{slices}/{key}/difference.png")).shape == (*case.mask.shape[1:], 3)
    painted = np.asarray(
        Image.open(BytesIO(browser.get(f"{slices}/{key}/segmentation-1-outline.png").content)).convert("RGBA")
    )
    assert ((painted[..., 3] > 0) == outline(case.mask[key])).all()


def test_the_slices_of_enhanced_ct_are_its_frames(clinic):
    phantom = head_ct(hematoma_ml=30, geometry=SMALL)
    enhanced = enhanced_ct(phantom.datasets)
    clinic.receive_datasets([enhanced])
    clinic.decide_on(enhanced)
    case = Case(phantom.datasets, phantom.hematoma)
    case.become_enhanced()
    for source in case.sources:
        source.SOPInstanceUID = enhanced.SOPInstanceUID
    case.volume = replace(
        case.volume,
        grid=replace(case.volume.grid, sop_instance_uids=(str(enhanced.SOPInstanceUID),) * len(case.mask)),
    )
    job = clinic.finish_with(case)
    browser = clinic.browser()
    key = int(case.mask.sum(axis=(1, 2)).argmax())
    assert f'data-start="{key}"' in browser.get(page_of(job)).text
    shown = pixels(browser.get(f"{page_of(job)}/slices/{key}/source-brain.png"))
    assert (shown == apply(case.volume.hu[key], BRAIN)).all()
    assert browser.get(f"{page_of(job)}/slices/{key}/segmentation-1-fill.png").status_code == 200


def test_the_layers_say_on_which_slices_there_is_something(clinic, reviewed):
    case, job = reviewed()
    layers = clinic.browser().get(f"{page_of(job)}/layers").json()
    assert [segment["name"] for segment in layers["segments"]] == [
        "segmentation-1",
        "predicted_segmentation-1",
        "predicted_segmentation-2",
    ]
    assert layers["segments"][0]["slices"] == np.flatnonzero(case.mask.any(axis=(1, 2))).tolist()
    everywhere = list(range(len(case.mask)))
    assert layers["pictures"]["predicted"] == layers["pictures"]["difference"] == everywhere
    assert set(layers["pictures"]) == {"predicted", "difference", *(r for r in Role if r.endswith("_saliency"))}


def test_the_page_says_what_was_found_by_which_model_and_what_it_is_not_for(clinic, reviewed):
    _, job = reviewed(SeriesDescription="<b>HEAD</b>")
    page = clinic.browser().get(page_of(job)).text
    for said in (
        "&lt;b&gt;HEAD&lt;/b&gt;",
        "P*** H***",
        "Volume by ABC/2",
        f"{job.findings['hematoma']['volume_ml']:.1f} mL",
        "23 %",
        "12 to 40",
        "Expansion by 3 mL in 24 h",
        "19 to 47",
        "moderate risk",
        "not estimated",
        "no cohort to calibrate on",
        "a" * 64,
        "simulated patients",
        "Research use only",
        "To pacs",
        f"{len(composed('regular')[2])} pending",
    ):
        assert said in page, said
    assert "<b>HEAD" not in page


def test_the_reports_are_read_from_the_objects_that_were_sent(clinic, reviewed):
    case, job = reviewed()
    said = clinic.browser().get(f"{page_of(job)}/reports").text
    assert f"{round(case.findings.hematoma.volume_ml, 3)} mL" in said
    for line in ("Probability of hematoma expansion within 24 h", "Predicted, lower bound of the interval", "Kothari"):
        assert line in said
    assert 'title="118565006, SCT"' in said


def test_what_names_the_patient_is_shown_where_patients_are(clinic, reviewed):
    _, job = reviewed()
    masked, shown = clinic.browser(), clinic.browser(patients_shown=True)
    assert "PHANTOM, HEAD" in shown.get(page_of(job)).text
    assert "PHANTOM" not in masked.get(page_of(job)).text
    assert shown.get(f"{page_of(job)}/summary_page.png").status_code == 200
    assert masked.get(f"{page_of(job)}/summary_page.png").status_code == 404


class Noted(AuditTrail):
    """Says when somebody wrote to it, which is after the answer."""

    def __init__(self, engine):
        super().__init__(engine)
        self.written = Event()

    def append(self, *row, **more):
        super().append(*row, **more)
        self.written.set()


def test_numbers_that_a_later_job_replaced_say_so(clinic, reviewed):
    case, first = reviewed()
    browser = clinic.browser()
    assert "took its place" not in browser.get(page_of(first)).text
    clinic.receive(first.study_instance_uid, 99, series=first.series_instance_uid)
    refused = clinic.decide_on(case.sources[0], input_sha256="y")
    clinic.ledger.refuse(clinic.ledger.claim(at=clinic.now), reason="no_brain", detail="", at=clinic.now)
    clinic.receive(first.study_instance_uid, 98, series="9")
    clinic.decide(first.study_instance_uid, series_instance_uid="9")  # of another series
    page = browser.get(page_of(first)).text
    link = f'<a href="{page_of(refused)}">job {refused.id}</a>'
    assert f'<p class="warn">A later job took its place: {link} (refused).</p>' in page
    assert "took its place" not in browser.get(page_of(refused)).text


def test_what_was_rejected_is_struck_out(clinic, reviewed):
    _, job = reviewed()
    browser, judgements = clinic.browser(), Judgements(clinic.engine)
    for opinion, void in ((ACCEPTED, False), (REJECTED, True)):
        judgements.record(job.id, opinion, who="anna", at=clinic.now, withdraw=False)
        page = browser.get(page_of(job)).text
        assert ('<p class="chief void">' in page) == ('<table class="cards void">' in page) == void
        assert ("Rejected: these are no findings any more." in page) == void


def test_who_opened_the_page_stands_in_the_trail_and_pictures_add_nothing(clinic, reviewed):
    _, job = reviewed()
    trail, study = Noted(clinic.engine), pseudonym(job.study_instance_uid)
    browser = clinic.browser(audit=trail)
    assert browser.head(page_of(job)).status_code == 200
    assert browser.get(page_of(job)).status_code == 200
    assert trail.written.wait(10)
    browser.get(f"{page_of(job)}/slices/3/source-brain.png")
    browser.get(f"{page_of(job)}0")
    clinic.close()
    viewed = [(row.who, row.what) for row in trail.rows() if row.event == AuditEvent.RESULTS_VIEWED]
    assert viewed == [("web: anybody at 127.0.0.1", {"job": job.id, "study": study})]
    assert trail.verify() == []


def test_a_trail_that_cannot_be_written_keeps_nobody_from_the_results(clinic, reviewed, monkeypatch):
    _, job = reviewed()
    with clinic.engine.begin() as db:
        db.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
    said = Queue()
    monkeypatch.setattr(review.log, "error", lambda message, extra: said.put((message, extra)))
    assert clinic.browser().get(page_of(job)).status_code == 200
    assert said.get(timeout=10) == (
        "view_not_audited",
        {"job_id": job.id, "detail": "web: anybody at 127.0.0.1: IntegrityError"},
    )


def test_pictures_are_not_left_on_the_disk_of_a_reading_station(clinic, reviewed):
    _, job = reviewed()
    answer = clinic.browser().get(f"{page_of(job)}/slices/3/source-brain.png")
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("image/png", "no-store")


@pytest.mark.parametrize(
    "path",
    [
        "/slices/99/source-brain.png",
        "/slices/3/source-lung.png",
        "/slices/3/segmentation-7-fill.png",
        "/slices/0/segmentation-1-fill.png",  # nothing of it on this slice
        "/slices/3/measurement_report.png",
        "/slices/3/summary_page.png",
        "/nothing.png",
    ],
)
def test_a_picture_that_does_not_exist_is_not_found(clinic, reviewed, path):
    _, job = reviewed()
    answer = clinic.browser(patients_shown=True).get(page_of(job) + path)
    assert (answer.status_code, answer.text) == (404, "there is no such picture")


def test_a_job_is_found_under_its_own_study_alone(clinic, reviewed):
    _, job = reviewed()
    browser = clinic.browser()
    for path in (f"/studies/1.2.3/jobs/{job.id}", f"/studies/{job.study_instance_uid}/jobs/99"):
        answer = browser.get(path)
        assert (answer.status_code, "This study has no such job on this node." in answer.text) == (404, True)
        for more in ("/layers", "/reports", "/slices/1/source-brain.png"):
            assert browser.get(path + more).status_code == 404


def ready(clinic, dataset):
    return clinic.decide_on(dataset)


def ignored(clinic, dataset):
    return clinic.decide_on(dataset, state=JobState.IGNORED, decision="ignore", reason="bone_kernel", rule=None)


def refused(clinic, dataset):
    clinic.decide_on(dataset)
    clinic.ledger.refuse(clinic.ledger.claim(at=clinic.now), reason="no_brain", detail="0 mL", at=clinic.now)


def failed(clinic, dataset):
    clinic.decide_on(dataset)
    for _ in range(3):
        clinic.ledger.fail_attempt(clinic.ledger.claim(at=clinic.now), reason="oom", detail="killed", at=clinic.now)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (ready, "It waits to be analysed."),
        (ignored, "The series is reconstructed with a sharp (bone) kernel."),
        (refused, "The series shows no brain."),
        (failed, "The analysis failed."),
    ],
)
def test_a_job_without_results_says_why_and_decodes_nothing(clinic, happens, said, monkeypatch):
    datasets = head_ct(hematoma_ml=0, geometry=SMALL).datasets
    clinic.receive_datasets(datasets)
    happens(clinic, datasets[0])
    (job,) = clinic.history.list_jobs()
    browser = clinic.browser()
    monkeypatch.setattr(shown_module, "slice_hu", lambda _: pytest.fail("pixels are decoded"))
    page = browser.get(page_of(job)).text
    assert said in page
    assert "There is no picture. Pictures are shown once the series has been analysed." in page
    assert datasets[0].SeriesDescription in page
    assert browser.get(f"{page_of(job)}/layers").json() == {"segments": [], "pictures": {}, "unreadable": {}}
    assert browser.get(f"{page_of(job)}/slices/3/source-bone.png").status_code == 404


def test_a_series_that_is_no_volume_has_no_picture_and_the_page_says_why(clinic):
    datasets = list(head_ct(hematoma_ml=0, geometry=SMALL).datasets)
    del datasets[12]
    clinic.receive_datasets(datasets)
    job = clinic.decide_on(datasets[0])
    browser = clinic.browser()
    page = browser.get(page_of(job))
    assert (page.status_code, "There is no picture. The series lacks slices" in page.text) == (200, True)
    assert browser.get(f"{page_of(job)}/slices/3/source-brain.png").status_code == 404


def test_a_purged_job_shows_nothing_that_was_seen_before(clinic, reviewed):
    _, job = reviewed()
    browser, picture = clinic.browser(), f"{page_of(job)}/slices/3/source-brain.png"
    assert browser.get(picture).status_code == 200
    clinic.deliver()
    clinic.purge(job.study_instance_uid)
    page = browser.get(page_of(job))
    assert (page.status_code, "were removed from this node (age)" in page.text) == (200, True)
    assert 'id="viewer"' not in page.text
    gone = browser.get(picture)
    assert (gone.status_code, gone.text) == (404, "this picture cannot be read, or is no longer here")
    assert "The reports are no longer on this node." in browser.get(f"{page_of(job)}/reports").text


def test_a_damaged_result_costs_its_own_picture_alone_and_is_told(clinic, reviewed):
    _, job = reviewed()
    for result in clinic.history.results(job.id):
        if result.role in (Role.SEGMENTATION, Role.MEASUREMENT_REPORT):
            Path(result.file).write_bytes(Path(result.file).read_bytes()[:2000])
    browser = clinic.browser()
    assert browser.get(page_of(job)).status_code == 200
    layers = browser.get(f"{page_of(job)}/layers").json()
    assert [s["name"] for s in layers["segments"]] == ["predicted_segmentation-1", "predicted_segmentation-2"]
    assert layers["unreadable"] == {"segmentation": "Hematoma segmentation"}
    assert "This report cannot be read on this node." in browser.get(f"{page_of(job)}/reports").text
    assert browser.get(f"{page_of(job)}/slices/3/source-brain.png").status_code == 200


@pytest.mark.parametrize(
    ("role", "unreadable"),
    [(Role.SEGMENTATION, ["segmentation"]), (Role.PREDICTED_SERIES, ["predicted", "difference"])],
)
def test_a_result_that_could_not_be_read_for_a_while_is_shown_afterwards(
    clinic, reviewed, monkeypatch, role, unreadable
):
    _, job = reviewed()
    browser, path = clinic.browser(), f"{page_of(job)}/layers"
    (file, *_) = [Path(result.file) for result in clinic.history.results(job.id) if result.role == role]
    away = file.rename(file.with_suffix(".away"))
    before = browser.get(path).json()
    away.rename(file)
    assert list(before["unreadable"]) == unreadable
    assert browser.get(path).json() == before  # not read for every picture
    monkeypatch.setattr(shown_module, "_AGAIN_S", 0)
    after = browser.get(path).json()
    assert after["unreadable"] == {}
    assert after["segments"] != before["segments"] or after["pictures"] != before["pictures"]


def test_images_that_could_not_be_read_for_a_while_are_shown_afterwards(clinic, reviewed, monkeypatch):
    _, job = reviewed()
    browser, gated_slices = clinic.browser(), shown_module.gated_slices
    monkeypatch.setattr(shown_module, "_AGAIN_S", 0)
    monkeypatch.setattr(shown_module, "gated_slices", Mock(side_effect=OSError(5, "Input/output error")))
    assert "The images cannot be read: Input/output error." in browser.get(page_of(job)).text
    monkeypatch.setattr(shown_module, "gated_slices", gated_slices)
    assert 'id="viewer"' in browser.get(page_of(job)).text


def test_an_8_bit_export_is_shown_in_the_hu_that_were_estimated(clinic):
    phantom = head_ct(hematoma_ml=30, geometry=SMALL)
    datasets = [_grays(dataset) for dataset in phantom.datasets]
    clinic.receive_datasets(datasets)
    clinic.decide_on(datasets[0])
    case = Case(phantom.datasets, phantom.hematoma, followup=False)
    case.caveats = (Caveat.EIGHT_BIT,)
    job = clinic.finish_with(case, results=())
    shown = pixels(clinic.browser().get(f"{page_of(job)}/slices/14/source-brain.png"))
    assert np.abs(shown.astype(int) - apply(case.volume.hu[14], BRAIN)).max() <= 2
    assert Caveat.EIGHT_BIT in clinic.browser().get(page_of(job)).text


def _grays(dataset):
    """The slice as a picture: the brain window in 256 grays, without a rescale."""
    hu = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).astype(np.float32)
    gray = apply(hu, BRAIN).astype("<u2").tobytes()
    alterations = {"PixelData": gray, "PixelRepresentation": 0, "RescaleSlope": None, "RescaleIntercept": None}
    return altered(dataset, **alterations, RescaleType=None, PixelPaddingValue=None)


def test_the_study_opens_in_the_viewer_of_the_site(clinic, reviewed):
    _, job = reviewed()
    link = f"https://pacs.example/viewer?StudyInstanceUIDs={job.study_instance_uid}&amp;lang=en"
    assert (
        f'href="{link}" target="_blank" rel="noopener noreferrer"'
        in clinic.browser(viewer_url=VIEWER).get(page_of(job)).text
    )
    assert "site's viewer" not in clinic.browser().get(page_of(job)).text


@pytest.mark.parametrize("url", ["javascript:alert({StudyInstanceUID})", "https://pacs.example/", "{StudyInstanceUID}"])
def test_a_viewer_url_is_a_web_address_with_a_place_for_the_study(url):
    with pytest.raises(ValueError, match="viewer_url"):
        Settings.model_validate({"web": {"viewer_url": url}})


def test_the_neighbours_are_the_newest_analysed_jobs_of_other_studies(clinic):
    for study in ("1", "2", "3", "4"):
        clinic.receive(study)
        clinic.decide(study)
        clinic.analyse(findings=None if study == "2" else {"model": {}})  # none: a report of what was not analysed
    clinic.receive("4", 3)
    clinic.decide("4", input_sha256="late")
    clinic.analyse(findings={"model": {}})
    clinic.receive("5")
    clinic.decide("5")
    clinic.ledger.refuse(clinic.ledger.claim(at=clinic.now), reason="no_brain", detail="", at=clinic.now)
    clinic.receive("3", 9)
    clinic.decide("3", input_sha256="waits")
    first, _, third, fourth, late, _, _ = reversed(clinic.history.list_jobs())
    assert clinic.history.neighbours(third) == (late, first)
    assert clinic.history.neighbours(late) == (None, third)
    assert clinic.history.neighbours(fourth) == (None, third)
    assert clinic.history.neighbours(first) == (third, None)


def test_the_pages_load_neither_networks_nor_image_toolkits():
    loaded = (
        "import sys, ichnode.web.app; print(*{'torch', 'models', 'SimpleITK', 'highdicom', 'scipy'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert said.stdout == "\n"


def test_answers_do_not_wait_for_an_acknowledgement(clinic):
    clinic.browser()
    (server,) = clinic._servers
    assert server._door.proto == socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY on connections of no other
