"""Judging by the pages of a running node: what is noted, audited and counted, and what the PACS gets."""

import sqlite3
from html.parser import HTMLParser

import httpx
import pytest
from playwright.sync_api import sync_playwright
from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from ichnode.config import Settings
from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.domain.audit import AuditEvent
from ichnode.domain.job import JobState
from ichnode.domain.judgement import RejectReason, Verdict
from ichnode.node import Node
from ichnode.phantom import head_ct
from ichnode.storage.audit import AuditTrail
from tests.acceptance.dcmtk import dciodvfy
from tests.acceptance.peers import program
from tests.integration.test_node import SMALL, _pause, destination
from tests.iocm_archive import IocmArchive
from tests.pacs import CommittingPacs, Pacs

OURS = {"Sec-Fetch-Site": "same-origin"}
HTMX = OURS | {"HX-Request": "true"}
REJECTED = {"verdict": "rejected", "reason": "missed", "comment": "in the pons", "corrected_ml": "36"}


class Reviewed:
    """A node with one analysed study, and a person before its pages."""

    def __init__(self, folder, pacs, *, withdraws) -> None:
        rule = {"name": "head-ct", "run": ["hematoma"], "withdraw_rejected": withdraws}
        self.settings = Settings.model_validate(
            {
                "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder / "data", "reserve_mb": 0},
                "completeness": {"quiet_s": 0.3},
                "rules": [rule],
                "inference": {"hematoma_bundle": "hematoma-baseline"},
                "web": {"port": 0},
                "destinations": [destination(pacs)],
                "delivery": {"first_retry_s": 0.2, "max_attempts": 3},
            }
        )
        self.folder, self.pacs = folder, pacs
        self.node = Node(self.settings)
        self.node.start()

    def analyse(self):
        """Send a study; its job, once it is done."""
        files = []
        for dataset in head_ct(hematoma_ml=30, geometry=SMALL).datasets:
            file = self.folder / f"{dataset.SOPInstanceUID}.dcm"
            dataset.save_as(file, enforce_file_format=True)
            uid = dataset.SOPInstanceUID
            files.append(Outgoing(sop_class_uid=dataset.SOPClassUID, sop_instance_uid=uid, file=str(file)))
        peer = Peer(ae_title="ICHNODE", host="127.0.0.1", port=self.node.dicom_port)
        assert {o.status for known in send(peer, files, calling_ae_title="SCANNER") for o in known} == {0}
        return self.wait(lambda: next((j for j in self.node.history.list_jobs() if j.state is JobState.DONE), None))

    def wait(self, look, timeout_s=60):
        for _ in range(int(timeout_s / 0.02)):
            if found := look():
                return found
            _pause.wait(0.02)
        raise AssertionError([(j.state, j.detail) for j in self.node.history.list_jobs()])

    def restart(self):
        self.node.stop()
        self.node = Node(self.settings)
        self.node.start()

    def request(self, method, path, **how):
        return httpx.request(method, f"http://127.0.0.1:{self.node.web_port}{path}", trust_env=False, **how)

    def get(self, job_id, **headers):
        return self.request("GET", f"/jobs/{job_id}/judgement", headers=headers)

    def post(self, job_id, data, headers=OURS):
        return self.request("POST", f"/jobs/{job_id}/judgement", data=data, headers=headers)

    def audited(self):
        return [row for row in AuditTrail(self.node._engine).rows() if row.event == AuditEvent.JUDGED]

    def metric(self, verdict):
        page = self.request("GET", "/metrics").text
        lines = [line for line in page.splitlines() if line.startswith("ichnode_judgements_total{")]
        return [line for line in lines if f'verdict="{verdict}"' in line]

    def note_states(self, job_id):
        return [d.state for d in self.node.outbox.of_job(job_id) if d.role == "rejection_note"]


@pytest.fixture(scope="module")
def pacs():
    with Pacs() as pacs:
        yield pacs


@pytest.fixture(scope="module")
def withdrawing(tmp_path_factory, pacs):
    reviewed = Reviewed(tmp_path_factory.mktemp("withdrawing"), pacs, withdraws=True)
    reviewed.job = reviewed.analyse()
    yield reviewed
    reviewed.node.stop()


@pytest.fixture(scope="module")
def keeping(tmp_path_factory):
    """A node whose rule does not withdraw, and a PACS of its own."""
    with Pacs() as pacs:
        reviewed = Reviewed(tmp_path_factory.mktemp("keeping"), pacs, withdraws=False)
        reviewed.job = reviewed.analyse()
        yield reviewed
        reviewed.node.stop()


def test_the_form_says_what_rejecting_does(withdrawing, keeping):
    page = keeping.get(keeping.job.id)
    assert page.status_code == 200
    assert "changes nothing in the PACS" in page.text
    assert "<!doctype html>" in page.text
    assert "a rejection note goes to where they went (pacs)" in withdrawing.get(withdrawing.job.id).text


def test_htmx_gets_a_fragment(keeping):
    fragment = keeping.get(keeping.job.id, **{"HX-Request": "true"}).text
    assert "<!doctype html>" not in fragment
    assert 'hx-target="#judgement"' in fragment


class _Labels(HTMLParser):
    """Which fields a form has, and which of them are named by a label or are inside one."""

    def __init__(self) -> None:
        super().__init__()
        self.ids, self.fields, self.named = set(), [], set()
        self._inside = 0

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        self._inside += tag == "label"
        if tag == "label":
            self.named.add(found.get("for"))
        if tag in ("input", "select", "textarea"):
            self.fields.append((found, self._inside > 0))

    def handle_endtag(self, tag):
        self._inside -= tag == "label"


def test_every_field_is_labelled_and_its_hint_and_error_are_there(keeping):
    html = keeping.post(keeping.job.id, {"verdict": "rejected", "corrected_ml": "nan"}, HTMX).text
    page = _Labels()
    page.feed(html)
    assert len(page.fields) == 5
    for field, inside in page.fields:
        assert inside or field["id"] in page.named
        assert set(field.get("aria-describedby", "").split()) <= page.ids
    wrong = {field["name"] for field, _ in page.fields if field.get("aria-invalid") == "true"}
    assert wrong == {"reason", "corrected_ml"}


def test_without_the_rule_a_rejection_is_noted_and_the_pacs_keeps_what_it_has(keeping):
    before = len(keeping.pacs.taken)
    assert keeping.post(keeping.job.id, REJECTED).status_code == 303
    _pause.wait(1)
    assert len(keeping.pacs.taken) == before
    assert keeping.note_states(keeping.job.id) == []
    assert "in the pons" in keeping.get(keeping.job.id).text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (REJECTED | {"comment": "x" * 5000}, "has 5000 characters"),
        (REJECTED | {"comment": "a\0b"}, "no text"),
        (REJECTED | {"corrected_ml": "NaN"}, "a number from 0 to 500"),
        (REJECTED | {"corrected_ml": "<script>alert(1)</script>"}, "a number from 0 to 500"),
        (REJECTED | {"reason": "<b>x</b>"}, "say why it is rejected"),
        ({}, "accept or reject"),
    ],
)
def test_hostile_input_is_refused_beside_its_field_and_stores_nothing(keeping, said, told):
    before = keeping.node.judgements.all()
    answer = keeping.post(keeping.job.id, said)
    assert (answer.status_code, told in answer.text.lower()) == (422, True)
    assert "<script>" not in answer.text.replace("<script src", "")
    assert "<b>" not in answer.text
    assert keeping.post(keeping.job.id, said, HTMX).status_code == 200  # htmx shows nothing else
    assert keeping.node.judgements.all() == before


def test_it_is_judged_by_keyboard_alone_and_nothing_breaks_the_policy(keeping):
    """In a real browser, where htmx swaps the fragment."""
    url = f"http://127.0.0.1:{keeping.node.web_port}/jobs/{keeping.job.id}/judgement"
    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        while page.evaluate("document.activeElement.name") != "verdict":
            page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")  # from accept to reject
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.type("nan")
        page.keyboard.press("Enter")
        page.wait_for_selector("#reason-problem")
        assert page.evaluate("document.activeElement.role") == "alert"  # where a reader goes on
        while page.evaluate("document.activeElement.name") != "reason":
            page.keyboard.press("Tab")
        page.keyboard.type("hemorrhage")
        page.keyboard.press("Tab")
        page.keyboard.press("Control+A")
        page.keyboard.type("36,5")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Saved.")
        browser.close()
    said = keeping.node.judgements.of_job(keeping.job.id)[-1].opinion
    assert (said.verdict, said.reason, said.corrected_ml) == (Verdict.REJECTED, RejectReason.MISSED, 36.5)
    assert complaints == []


def test_html_in_a_comment_is_text(keeping):
    hostile = REJECTED | {"comment": '"><img src=x onerror=alert(1)>'}
    fragment = keeping.post(keeping.job.id, hostile, HTMX).text
    assert "Saved." in fragment
    assert "<img" not in fragment
    assert "&lt;img src=x" in fragment


def test_a_huge_body_is_cut_off(keeping):
    assert keeping.post(keeping.job.id, {"comment": "x" * 200_000}).status_code == 413


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
def test_a_foreign_page_cannot_judge(keeping, headers):
    before = keeping.node.judgements.all()
    assert keeping.post(keeping.job.id, REJECTED, headers).status_code == 403
    assert keeping.node.judgements.all() == before


def test_what_has_no_results_is_answered_with_a_sentence(keeping):
    assert keeping.get(4711).status_code == 404
    with sqlite3.connect(keeping.folder / "data" / "ichnode.db") as db:
        columns = (
            "snapshot_id, study_instance_uid, series_instance_uid, state, decision, reason, detail, run, send_to, "
        )
        columns += (
            "priority, priority_rank, report_ignored, input_sha256, attempts, interruptions, created_at, updated_at"
        )
        query = f"INSERT INTO jobs ({columns}) SELECT {columns.replace('state', ':state')} FROM jobs LIMIT 1"
        job_id = db.execute(query, {"state": "ignored"}).lastrowid
    for answer in (keeping.get(job_id), keeping.post(job_id, REJECTED)):
        assert answer.status_code == 409
        assert f"Job {job_id} has no results that could be judged: nothing was analysed." in answer.text


def test_a_rejection_reaches_the_pacs_once_is_audited_counted_and_shown(withdrawing, tmp_path):
    job = withdrawing.job
    results = withdrawing.node.history.results(job.id)
    assert withdrawing.post(job.id, REJECTED, HTMX).status_code == 200
    assert withdrawing.post(job.id, REJECTED, HTMX).status_code == 200  # a second click
    withdrawing.wait(lambda: withdrawing.note_states(job.id) == ["delivered"])
    (note,) = [d for d in withdrawing.pacs.taken if d.SOPClassUID == KeyObjectSelectionDocumentStorage]
    assert note.ConceptNameCodeSequence[0].CodeMeaning == "Rejected for Patient Safety Reasons"
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    named = {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
    assert named == {result.sop_instance_uid for result in results}
    note.save_as(tmp_path / "note.dcm", enforce_file_format=True)
    assert dciodvfy(tmp_path / "note.dcm") == []
    assert withdrawing.node.history.job(job.id).state is JobState.DONE
    (row,) = withdrawing.audited()
    assert (row.who, row.what["reason"], row.what["withdraws"]) == ("web: anybody at 127.0.0.1", "missed", True)
    (counted,) = withdrawing.metric("rejected")
    assert 'bundle="hematoma-baseline ' in counted
    assert counted.endswith(" 1.0")
    shown = withdrawing.request("GET", f"/api/jobs/{job.id}").json()
    assert [r["role"] for r in shown["results"]].count("rejection_note") == 1
    assert "These results are withdrawn already" in withdrawing.get(job.id).text


def test_after_a_restart_the_count_is_the_same_and_nothing_is_sent_again(withdrawing):
    before = len(withdrawing.pacs.taken)
    withdrawing.restart()
    assert withdrawing.metric("rejected")[0].endswith(" 1.0")
    _pause.wait(1)
    assert len(withdrawing.pacs.taken) == before


def test_accepting_later_brings_nothing_back(withdrawing):
    before = len(withdrawing.pacs.taken)
    answer = withdrawing.post(withdrawing.job.id, {"verdict": "accepted"}, HTMX)
    assert "These results are withdrawn already" in answer.text
    _pause.wait(1)
    assert len(withdrawing.pacs.taken) == before
    assert len(withdrawing.metric("accepted")) == 1


def test_a_pacs_that_takes_no_rejection_notes_is_named_on_the_page(tmp_path):
    with CommittingPacs() as pacs:
        reviewed = Reviewed(tmp_path, pacs, withdraws=True)
        try:
            job = reviewed.analyse()
            reviewed.post(job.id, REJECTED)
            reviewed.wait(lambda: reviewed.note_states(job.id) == ["refused"])
            assert reviewed.node.history.job(job.id).state is JobState.DONE
            assert "It still has the results: remove them there by hand." in reviewed.get(job.id).text
        finally:
            reviewed.node.stop()


def test_an_archive_that_follows_iocm_hides_what_it_took_and_only_that_is_named(tmp_path):
    with IocmArchive([SecondaryCaptureImageStorage]) as archive:  # segmentation and reports are refused, and replaced
        reviewed = Reviewed(tmp_path, archive, withdraws=True)
        try:
            job = reviewed.analyse()
            assert len(archive.shown) == 1
            reviewed.post(job.id, REJECTED)
            reviewed.wait(lambda: reviewed.note_states(job.id) == ["delivered"])
            assert (archive.shown, archive.answers) == ({}, [0x0000])
            assert list(archive.hidden.values()) == ["113037"]
        finally:
            reviewed.node.stop()
