"""The pages say what the ledger knows, and what people do by them is done once, and under their name."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Event, Semaphore

import httpx
import pytest
from playwright.sync_api import sync_playwright
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError

from ichnode import peers
from ichnode.config import Settings
from ichnode.dicom.echo import Echo
from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.domain.job import JobState
from ichnode.node import Node
from ichnode.phantom import REGULAR, head_ct
from ichnode.storage.audit import AuditTrail
from ichnode.storage.history import ResultFile
from ichnode.storage.schema import jobs, studies
from ichnode.storage.worklist import WorkList
from ichnode.web import patient
from ichnode.web.gpu import Gpu, gpus
from tests.acceptance.peers import program
from tests.pacs import Pacs
from tests.reviewed_clinic import ReviewedClinic

OURS = {"Sec-Fetch-Site": "same-origin"}
SMALL = replace(REGULAR, rows=16, columns=16)
RULES = [
    {"name": "head", "run": ["hematoma"]},
    {"name": "<b>chest</b>", "match": {"head": False}, "run": ["hematoma"], "priority": "stat"},
]
FINDINGS = {
    "model": {"name": "m", "version": "1"},
    "hematoma": {
        "volume_ml": 30.24,
        "volume_low_ml": 28.0,
        "volume_high_ml": 33.0,
        "abc2_ml": 31.0,
        "side": "left",
        "parts": [{"type": "IPH"}],
    },
    "predictions": [
        {
            "model": {"name": "expansion", "version": "2"},
            "estimates": [
                {
                    "name": "expansion_probability",
                    "value": 41.0,
                    "low": 20.0,
                    "high": 60.0,
                    "category": "high risk",
                    "note": "growth of 6 mL; told of the patient: age 72",
                },
                {
                    "name": "death_probability",
                    "value": None,
                    "low": None,
                    "high": None,
                    "note": "unlike those it knows",
                },
            ],
        }
    ],
}


VOLUMES = {"volume_ml": 30.24, "volume_low_ml": 28.0, "volume_high_ml": 33.0}
ABOUT_MODEL = {"weights_sha256": "a", "family": "f", "trained_on": "nothing", "intended_use": "none"}
WHOLE_FINDINGS = FINDINGS | {
    "model": {"name": "m", "version": "1", **ABOUT_MODEL},
    "hematoma": FINDINGS["hematoma"]
    | {"parts": [{"type": "IPH", **VOLUMES}], "component_count": 1, "largest_slice_uid": "1.2"}
    | {"largest_area_mm2": 900.0, "long_axis_mm": 40.0, "short_axis_mm": 30.0, "probability": 0.9},
}
ANSWERED = Echo(accepted=frozenset(), status=0, seconds=0.0)


class Web:
    """A node whose HTTP side runs, whose studies are received over DICOM, and whose other loops are turned by hand."""

    def __init__(self, folder, pacs, **web):
        self.folder = folder
        self.node = Node(
            Settings.model_validate(
                {
                    "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder / "data", "reserve_mb": 0},
                    "web": {"port": 0, **web},
                    "rules": RULES,
                    "completeness": {"quiet_s": 0},
                    "sources": [{"ae_title": "CT"}, {"ae_title": "SILENT"}],
                    "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}],
                }
            )
        )
        self.node._web.start()
        self.node._scp.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.node.web_port}", trust_env=False, timeout=30)

    def receive(self, seed=1, **header):
        """A study from the scanner, and decided; its UID."""
        datasets = head_ct(hematoma_ml=0, geometry=SMALL, seed=seed).datasets
        outgoing = []
        for number, dataset in enumerate(datasets):
            for keyword, value in header.items():
                setattr(dataset, keyword, value)
            file = self.folder / f"{seed}-{number}.dcm"
            dataset.save_as(file, enforce_file_format=True)
            uids = dataset.SOPClassUID, dataset.SOPInstanceUID
            outgoing.append(Outgoing(sop_class_uid=uids[0], sop_instance_uid=uids[1], file=str(file)))
        peer = Peer(ae_title="ICHNODE", host="127.0.0.1", port=self.node.dicom_port)
        assert len(list(send(peer, outgoing, calling_ae_title="CT"))) == len(datasets)
        while not self.node._assembling._turn():
            pass
        return str(datasets[0].StudyInstanceUID)

    def analyse(self, findings=FINDINGS):
        """The next job, with one result to deliver; its id."""
        job = self.node.ledger.claim(at=self.node._clock())
        result = ResultFile(
            role="r", sop_instance_uid="2.1", sop_class_uid="1.2", series_instance_uid="2.2", file="/none"
        )
        self.node.ledger.finish_analysis(job, [result], findings=findings, seconds={}, at=self.node._clock())
        return job.id

    def get(self, path, **options):
        return self.client.get(path, **options)

    def post(self, path, **data):
        return self.client.post(path, data=data, headers=OURS)

    def state(self, job_id):
        return self.node.history.job(job_id).state

    def stop(self):
        self.node._stop.set()
        self.node._web.stop()
        self.node._scp.stop()
        self.node._engine.dispose()
        os.close(self.node._lock)


@pytest.fixture
def start(tmp_path):
    running = []
    with Pacs() as pacs:

        def start(**web):
            running.append(Web(tmp_path, pacs, **web))
            return running[-1]

        yield start
        for web in running[-1:]:
            web.stop()


@pytest.fixture
def web(start):
    return start()


def text_of(answer):
    """What a page says, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())


def test_an_empty_work_list_says_what_to_expect(web):
    assert "Studies appear as scanners send them to ICHNODE" in text_of(web.get("/"))


def test_the_work_list_tells_of_arrival_evidence_decision_findings_and_delivery(web):
    web.receive(PatientName="DOE^JOHN")
    web.analyse()
    said = text_of(web.get("/"))
    for expected in (
        "CT D*** J*** HEAD WITHOUT CONTRAST delivering",
        "complete: ",  # on which evidence, depends on when the release was noted
        "delivering",
        "2 BRAIN · chosen · rule head",
        "30.2 mL (28.0 to 33.0 mL) left IPH",
        "41 % (20 to 60 %) P(expansion)",
        "pacs 1 pending",
        "Research use only",
    ):
        assert expected in said
    assert "P(death" not in said  # the model abstained; the page of the study says so


def test_patients_are_masked_unless_the_configuration_shows_them(start):
    web = start()
    uid = web.receive(PatientName="DOE^JOHN", PatientID="4711", PatientBirthDate="19540302")
    web.analyse()
    for path in ("/", f"/studies/{uid}", f"/rules?study={uid}"):
        assert not re.search("DOE|JOHN|4711|1954|age 72", web.get(path).text)
    web.stop()
    shown = start(patient="shown")
    for path in ("/", f"/studies/{uid}"):
        said = text_of(shown.get(path))
        assert "DOE, JOHN" in said
        assert re.search("born 1954-03-02 .*ID 4711", said)


def test_the_api_leaves_out_what_models_were_told_of_masked_patients(start):
    web = start()
    web.receive()
    path = f"/api/jobs/{web.analyse()}"

    def note():
        return web.get(path).json()["findings"]["predictions"][0]["estimates"][0]["note"]

    assert note() == "growth of 6 mL"
    assert web.get(path).json()["findings"]["hematoma"] == FINDINGS["hematoma"]
    web.stop()
    web = start(patient="shown")
    assert note() == "growth of 6 mL; told of the patient: age 72"


def test_what_is_masked_is_found_by_the_whole_of_it_alone(web):
    uid = web.receive(PatientName="DOE^JOHN", PatientID="4711")
    for text, found in (("4711", True), ("471", False), ("doe", False), ("contrast head", True), (uid, True)):
        assert (uid in web.get("/", params={"text": text}).text) is found, text


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        (b"\x08\x00\x05\x00CS", b"\x08\x00\x05\x00US"),  # the character set as numbers
        (b"\x10\x00\x40\x00CS", b"\x10\x00\x40\x00FD"),  # the sex as a float of two bytes
    ],
)
def test_an_element_of_an_impossible_vr_costs_the_name_alone(start, written, damaged, monkeypatch):
    monkeypatch.setitem(RULES[1], "match", {"head": False, "PatientSex": "F"})
    web = start(patient="shown")
    uid = web.receive(PatientName="DOE^JOHN", PatientSex="M", SpecificCharacterSet="ISO_IR 100")
    whole = damage(web, written, damaged)
    for path in ("/", "/?text=doe", "/?sort=patient", "/rules", f"/studies/{uid}"):
        answer = web.get(path)
        assert (answer.status_code, "DOE" in answer.text) == (200, False), path
    assert "patient not known here" in text_of(web.get("/"))
    traced = web.get("/rules", params={"study": uid})
    assert (traced.status_code, "PatientSex" in traced.text) == (200, True)  # absent, to a rule
    assert web.post("/jobs/1/rerun", rule="<b>chest</b>").status_code == 200
    for file, content in whole.items():
        file.write_bytes(content)
    assert "DOE, JOHN" in text_of(web.get("/"))  # a failure is not remembered


def damage(web, written, damaged):
    """Replaces bytes of the headers of all instances that the node has; what the files were."""
    files = {file: file.read_bytes() for file in web.node._store.folder.rglob("*.dcm")}
    assert files
    for file, content in files.items():
        assert content.count(written) == 1
        file.write_bytes(content.replace(written, damaged))
    return files


def test_the_pages_read_whom_a_file_is_of_once(web, monkeypatch):
    read = []
    dcmread = patient.dcmread
    monkeypatch.setattr(patient, "dcmread", lambda *a, **k: read.append(a) or dcmread(*a, **k))
    uid = web.receive()
    for path in ("/", "/rules", f"/studies/{uid}", f"/studies/{uid}/jobs/1"):
        assert web.get(path).status_code == 200
    assert len(read) == 1


def test_the_list_shows_one_group_and_sorts(web):
    first, second = web.receive(1), web.receive(2)
    web.analyse()
    assert second not in web.get("/", params={"show": "not_analysed"}).text
    on_the_way = web.get("/", params={"show": "on_the_way", "sort": "volume"}).text
    assert on_the_way.index(first) < on_the_way.index(second)  # 30 mL, and not analysed yet
    arrival = web.get("/").text
    assert arrival.index(second) < arrival.index(first)
    assert first not in web.get("/", params={"before": "1"}).text
    assert web.get("/", params={"show": "x", "sort": "x", "before": "x"}).status_code == 200


def test_a_page_of_studies_takes_as_many_queries_as_one_study(web):
    counted = []
    event.listen(web.node._engine, "before_cursor_execute", lambda *said: counted.append(said[2]))
    numbers = []
    for seed in (1, 2, 3):
        web.receive(seed)
        counted.clear()
        web.get("/")
        numbers.append(len([said for said in counted if said.startswith("SELECT")]))
    assert len(set(numbers)) == 1
    assert numbers[0] < 15


def lacking(value):
    """Each key in nested findings, and a copy without it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(value, dict):
            yield str(key), {other: kept for other, kept in value.items() if other != key}
        for path, copy in lacking(inner):
            changed = value.copy()
            changed[key] = copy
            yield f"{key}.{path}", changed


def test_findings_that_lack_a_key_are_shown_without_it(web):
    """As another version may have kept them."""
    uid = web.receive()
    job_id = web.analyse()
    pages = [f"/studies/{uid}", f"/studies/{uid}/jobs/{job_id}", f"/jobs/{job_id}/judgement", f"/api/jobs/{job_id}"]
    copies = dict(lacking(WHOLE_FINDINGS))
    assert {"hematoma", "hematoma.parts.0.type", "predictions.0.estimates.0.low", "model.name"} < set(copies)
    for path, findings in {"": WHOLE_FINDINGS, "of a test": FINDINGS, **copies}.items():
        with web.node._engine.begin() as db:
            db.execute(update(jobs).where(jobs.c.id == job_id).values(findings=findings))
        for page in ("/?sort=volume", "/?sort=expansion", *pages):
            answer = web.get(page)
            assert (answer.status_code, "No hematoma" in answer.text) == (200, False), (path, page)


def test_the_page_of_a_study_tells_everything_that_was_said(web):
    uid = web.receive()
    job_id = web.analyse()
    said = text_of(web.get(f"/studies/{uid}"))
    assert "Expansion within 24 h 41 % 20 to 60 % high risk; growth of 6 mL expansion 2" in said
    assert "Death within 30 days not estimated unlike those it knows" in said
    assert "models trained on simulated patients" in said
    assert f'href="/studies/{uid}/jobs/{job_id}"' in web.get("/").text
    assert web.get("/studies/9.9").status_code == 404
    assert web.get("/studies/9.9", headers={"Accept": "text/html"}).text.startswith("<!doctype html>")


def test_what_was_received_cannot_be_markup(web):
    uid = web.receive(StudyDescription="<script>alert(1)</script>", SeriesDescription="<img src=x>")
    for path in ("/", f"/studies/{uid}", f"/rules?study={uid}", "/?text=%3Cscript%3E"):
        assert not re.search("<script>|<img|<b>chest", web.get(path).text)


def test_a_person_drops_retries_and_raises_a_job_and_the_trail_says_who(start, tmp_path):
    (tmp_path / "password").write_text("p")
    web = start(username="dr.no", password_file=tmp_path / "password")
    web.client.auth = ("dr.no", "p")
    web.receive()
    assert "Job 1 is STAT" in web.post("/jobs/1/stat").text
    assert web.node.history.job(1).priority == "stat"
    assert "Job 1 is dropped" in web.post("/jobs/1/drop").text
    assert web.state(1) is JobState.DROPPED
    assert web.post("/jobs/1/stat").status_code == 409
    assert "Job 1 is ready again" in web.post("/jobs/1/retry").text
    assert web.post("/jobs/1/retry").status_code == 409
    trail = [(row.event, row.who) for row in AuditTrail(web.node._engine).rows()][-3:]
    who = "web: dr.no at 127.0.0.1"
    assert trail == [("job_raised", who), ("job_ended", who), ("job_revived", who)]
    assert "dr.no at 127.0.0.1" in text_of(web.get("/"))


def test_a_series_runs_again_under_another_rule_though_its_clauses_do_not_hold(web):
    uid = web.receive()
    answer = web.post("/jobs/1/rerun", rule="<b>chest</b>")
    assert (answer.status_code, web.state(1)) == (200, JobState.SUPERSEDED)
    job = web.node.history.job(2)
    assert (job.rule, job.priority, job.decision_reason, job.state) == ("<b>chest</b>", "stat", "by_hand", "ready")
    assert job.decision_detail == "although not: head equals False"
    assert web.post("/jobs/2/rerun", rule="<b>chest</b>").status_code == 409  # that is what it does
    assert web.post("/jobs/1/rerun", rule="head").status_code == 409  # a later job took its place
    assert web.post("/jobs/2/rerun", rule="nobody").status_code == 409
    assert "it was asked for by a person under this rule" in text_of(web.get(f"/studies/{uid}"))


def test_nothing_is_done_by_get_nor_for_other_pages(web):
    web.receive()
    for action in ("retry", "drop", "stat", "rerun"):
        assert web.get(f"/jobs/1/{action}").status_code == 405
        assert web.client.post(f"/jobs/1/{action}").status_code == 403
        assert web.client.post(f"/jobs/1/{action}", headers={"Origin": "https://evil.example"}).status_code == 403
    assert web.post("/jobs/9/drop").status_code == 404
    assert web.post("/jobs/1/rerun", rule="x" * 200_000).status_code == 413
    assert web.state(1) is JobState.READY


def test_an_action_asked_for_by_htmx_is_answered_by_a_line_and_a_hint_to_look_again(web):
    web.receive()
    answer = web.client.post("/jobs/1/drop", headers=OURS | {"HX-Request": "true"})
    assert answer.text.strip() == '<p class="said">Job 1 is dropped.</p>'
    assert answer.headers["HX-Trigger"] == "changed"


@pytest.mark.parametrize("number", ["9" * 19, "9" * 25, "9" * 5000], ids=len)
def test_a_number_that_no_id_has_is_not_found(web, number):
    uid = web.receive()
    web.analyse()
    job = f"/studies/{uid}/jobs"
    for path in (f"/api/jobs/{number}", f"/jobs/{number}/judgement", f"{job}/{number}", f"{job}/{number}/layers"):
        assert web.get(path).status_code == 404, path
    assert web.get(f"{job}/1/slices/{number}/source-brain.png").status_code == 404
    for action in ("retry", "drop", "stat", "rerun", "judgement"):
        assert web.post(f"/jobs/{number}/{action}").status_code == 404
    assert uid in web.get("/", params={"before": number}).text


def test_the_largest_number_that_is_looked_up_is_not_there(web):
    assert web.get(f"/api/jobs/{'9' * 18}").status_code == 404
    assert web.get("/", params={"before": "9" * 18}).status_code == 200


def test_a_form_of_too_many_fields_is_cut_off(web):
    web.receive()
    assert web.post("/jobs/1/drop", **{f"field{i}": "1" for i in range(101)}).status_code == 413
    assert web.state(1) is JobState.READY


def test_the_rules_page_traces_each_clause_on_a_stored_study_and_changes_nothing(web):
    uid = web.receive(BodyPartExamined="HEAD", ImageType=["DERIVED", "PRIMARY"])
    before = web.node.history.list_jobs()
    said = text_of(web.get("/rules", params={"study": uid}))
    assert "Rule head: 1 of 5 do not hold" in said
    assert "derived equals False True no" in said
    assert "head equals True True yes" in said
    assert "ignore it is derived, not original" in said
    assert "No snapshot" in text_of(web.get("/rules", params={"study": "9.9"}))
    assert web.node.history.list_jobs() == before


def test_health_tells_of_queues_disk_sources_and_destinations(web):
    web.receive()
    said = text_of(web.get("/health"))
    for expected in (
        "Not ready : ",
        "analyse: not running",
        "ready 1 ",
        "GB",
        "SILENT - nothing yet",
        "CT ",
        "PACS@127.0.0.1",
    ):
        assert expected in said, expected
    assert "not since the start" in said


def test_a_destination_is_called_and_what_it_answered_is_kept(web):
    answer = web.post("/destinations/pacs/echo")
    assert (answer.status_code, "pacs: C-ECHO 0x0000 in" in answer.text) == (200, True)
    assert "C-ECHO 0x0000 in" in text_of(web.get("/health"))
    assert web.post("/destinations/nobody/echo").status_code == 404


def test_a_destination_that_fails_says_when_it_is_tried_next_and_is_tried_now_by_a_button(start, tmp_path):
    (tmp_path / "password").write_text("p")
    web = start(username="dr.no", password_file=tmp_path / "password")
    web.client.auth = ("dr.no", "p")
    web.receive()
    web.analyse()
    [delivery] = web.node.outbox.due("pacs", at=time.time())
    web.node.outbox.postponed(delivery, status=None, error="no route to host", until=time.time() + 601)
    said = text_of(web.get("/health"))
    assert re.search(r"1 next attempt [0-9:]+, in 10 min .* no route to host \(job 1\) .* Try now pacs", said)
    assert web.client.post("/destinations/pacs/retry").status_code == 403
    assert web.get("/destinations/pacs/retry").status_code == 405
    assert "pacs is tried now: 1 waiting" in web.post("/destinations/pacs/retry").text
    assert len(web.node.outbox.due("pacs", at=time.time())) == 1
    assert "next attempt" in text_of(web.get("/health"))
    row = list(AuditTrail(web.node._engine).rows())[-1]
    assert (row.event, row.who) == ("destination_retried", "web: dr.no at 127.0.0.1")
    assert web.post("/destinations/nobody/retry").status_code == 404
    web.node.outbox.delivered(web.node.outbox.of_job(1)[0], status=0, at=time.time())
    assert "Try now" not in web.get("/health").text
    assert web.post("/destinations/pacs/retry").status_code == 409


def test_a_time_of_another_day_is_shown_with_its_date(web):
    uid = web.receive()
    with web.node._engine.begin() as db:
        db.execute(update(studies).values(last_received_at=1_700_000_000.0))
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(1_700_000_000.0))
    for path in ("/", f"/studies/{uid}"):
        assert day in text_of(web.get(path)), path


def test_a_destination_is_called_once_at_a_time_and_none_waits_for_another(tmp_path, sqlite_engine):
    clinic, asked, answers = ReviewedClinic(sqlite_engine, tmp_path), Semaphore(0), Event()

    def call(name):
        asked.release()
        assert name == "quick" or answers.wait(30)
        return "here"

    destinations = {"slow": "x", "quick": "x"}
    with (
        closing(clinic),
        clinic.browser(call=call, destinations=destinations, clock=time.time) as browser,
        ThreadPoolExecutor() as others,
    ):
        try:
            first = others.submit(browser.post, "/destinations/slow/echo", headers=OURS)
            assert asked.acquire(timeout=10)
            again = browser.post("/destinations/slow/echo", headers=OURS, timeout=5)
            assert (again.status_code, "slow: is being called already" in again.text) == (409, True)
            assert browser.post("/destinations/quick/echo", headers=OURS, timeout=5).status_code == 200
        finally:
            answers.set()
        assert first.result(10).status_code == 200
        assert browser.post("/destinations/slow/echo", headers=OURS).status_code == 200


def test_a_call_takes_no_longer_than_people_wait(monkeypatch):
    called = []
    monkeypatch.setattr(peers, "echo", lambda peer, *_, **__: called.append(peer) or ANSWERED)
    monkeypatch.setattr(peers, "ask", lambda service: called.append(service) or (200, None))
    limits = {"connect_timeout_s": 60, "response_timeout_s": 600}
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    web = {"name": "web", "url": "http://127.0.0.1:1"}
    impatient = {"name": "impatient", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "response_timeout_s": 3}
    settings = Settings.model_validate({"destinations": [pacs | limits, web | limits, impatient]})
    for destination in settings.destinations:
        peers.call_destination(settings, destination.name)
    assert [(one.connect_timeout_s, one.response_timeout_s) for one in called] == [(10, 10), (10, 10), (10, 3)]


def test_a_listener_is_told_that_something_changed(web):
    with web.client.stream("GET", "/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: begin"
        web.receive()
        assert next(line for line in lines if line.startswith("event:")) == "event: changed"
        web.node._stop.set()
        assert [line for line in lines if line.startswith("event: begin")] == []  # the stream ends with the node


def test_a_stream_ends_in_silence_when_the_database_is_away(web, monkeypatch, caplog):
    with web.client.stream("GET", "/events") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: begin"
        monkeypatch.setattr(WorkList, "mark", raises(OperationalError("", {}, Exception())))
        list(lines)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert web.get("/events").status_code == 503


def test_a_page_that_could_not_listen_tries_again_and_looks_by_itself(web):
    uid = web.receive()
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=["--no-sandbox"])
        page = browser.new_page(base_url=str(web.client.base_url))
        page.clock.install()
        page.on("response", lambda answer: asked.append(answer.url))
        page.route("**/events", lambda route: route.fulfill(status=503))
        page.goto(f"/studies/{uid}")
        page.wait_for_timeout(500)
        page.unroute("**/events")
        assert len([url for url in asked if url.endswith("/events")]) == 1
        with page.expect_response("**/events") as listening, page.expect_response(f"**/studies/{uid}"):
            page.clock.fast_forward(61_000)
        assert listening.value.status == 200
        browser.close()


def test_a_click_that_fails_says_so(web):
    """In a real browser, on the work list and in the form of a judgement; and what succeeds later takes its place."""
    web.receive()
    web.analyse()
    web.receive(2)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=["--no-sandbox"])
        page = browser.new_page(base_url=str(web.client.base_url))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto("/")
        page.route("**/jobs/2/drop", lambda route: route.fulfill(status=500, content_type="text/html", body="<p>x"))
        page.click("#drop-2")
        page.wait_for_selector("#said[role=status] .bad >> text=Nothing was changed: Internal Server Error")
        page.route("**/jobs/2/drop", lambda route: route.abort())
        page.click("#drop-2")
        page.wait_for_selector("#said >> text=the node did not answer")
        page.unroute("**/jobs/2/drop")
        page.click("#drop-2")
        page.wait_for_selector("#said >> text=Job 2 is dropped.")
        page.goto("/jobs/1/judgement")
        page.route("**/jobs/1/judgement", lambda route: route.fulfill(status=503, content_type="text/plain", body="y"))
        page.check("input[value=accepted]")
        for _ in range(2):
            page.click("#judgement button")
            page.wait_for_selector("#judgement [role=alert] >> text=Nothing was changed: y")
        assert page.locator("[role=alert]").count() == 1
        browser.close()


def test_a_part_of_a_page_that_cannot_be_loaded_says_so(web):
    uid = web.receive()
    web.analyse()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=["--no-sandbox"])
        page = browser.new_page(base_url=str(web.client.base_url))
        for fail in (lambda route: route.fulfill(status=503), lambda route: route.abort()):
            page.route("**/jobs/1/judgement", fail)
            page.goto(f"/studies/{uid}/jobs/1")
            page.wait_for_selector(".judgement [role=alert] >> text=could not be loaded. Reload the page")
        browser.close()


def test_a_rule_that_a_person_chooses_outlasts_what_changes_meanwhile(web):
    uid = web.receive(ImageType=["DERIVED", "PRIMARY"])
    change = "document.getElementById('study').dataset.old = ''; htmx.trigger(document.body, 'changed')"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=["--no-sandbox"])
        page = browser.new_page(base_url=str(web.client.base_url))
        page.goto(f"/studies/{uid}")
        rule = page.locator("#rule-1")
        rule.select_option("<b>chest</b>")
        rule.blur()
        page.evaluate(change)
        page.wait_for_selector("#study:not([data-old])")
        assert rule.input_value() == "<b>chest</b>"
        rule.focus()
        with page.expect_response(f"**/studies/{uid}"):
            page.evaluate(change)
        page.wait_for_timeout(300)
        assert page.locator("#study[data-old]").count() == 1  # the list is open, perhaps
        rule.blur()
        page.wait_for_selector("#study:not([data-old])")
        browser.close()


def test_a_gpu_is_told_as_nvidia_smi_tells_it(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 1024, 81559, 7, 41'\necho odd\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    told = Gpu(name="NVIDIA H100 80GB HBM3", used_mib="1024", total_mib="81559", busy_percent="7", celsius="41")
    assert gpus() == [told]
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus() == []


def raises(problem):
    """A method that does."""

    def method(*_, **__):
        raise problem

    return method


def test_a_database_that_cannot_be_read_is_said_and_a_mistake_is_logged(web, monkeypatch, caplog):
    monkeypatch.setattr(WorkList, "newest", raises(OperationalError("", {}, Exception())))
    answer = web.get("/", headers={"Accept": "text/html"})
    assert (answer.status_code, "The database cannot be read now" in answer.text) == (503, True)
    monkeypatch.setattr(WorkList, "newest", raises(LookupError("secret")))
    answer = web.get("/")
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert "Content-Security-Policy" in answer.headers
    assert [r.message for r in caplog.records if r.name.startswith("ichnode.web")] == [
        "ledger_not_read",
        "answer_failed",
    ]
