"""What was rejected stands nowhere as a finding: not in the work list, not on the page of the study, not in JSON."""

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from sqlalchemy import event

from ichnode.domain.job import JobState
from ichnode.domain.judgement import Verdict
from ichnode.storage.audit import AuditTrail
from ichnode.storage.judgements import Judgements
from ichnode.storage.schema import open_engine
from ichnode.storage.standing import Standing
from ichnode.storage.worklist import WorkList
from ichnode.web.app import create_app
from ichnode.web.guard import Credentials
from ichnode.web.parts import WebParts
from ichnode.web.server import WebServer
from tests import judgement_factory
from tests.judgement_factory import ACCEPTED, JudgedClinic

VOLUMES = {"volume_ml": 31.5, "volume_low_ml": 28.0, "volume_high_ml": 33.0, "abc2_ml": 31.0}
AREAS = {"largest_area_mm2": 1.0, "long_axis_mm": 1.0, "short_axis_mm": 1.0, "component_count": 1}
SAID = {"hematoma": VOLUMES | AREAS | {"side": "left", "parts": []}, "predictions": []}

BETTER_CAME = {"state": JobState.IGNORED, "decision": "ignore", "reason": "better_series", "run": (), "send_to": ()}


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    monkeypatch.setattr(judgement_factory, "FINDINGS", judgement_factory.FINDINGS | SAID)
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield JudgedClinic(engine, tmp_path)
    engine.dispose()


@pytest.fixture
def browser(clinic):
    parts = dict.fromkeys(field.name for field in fields(WebParts)) | {  # None: these pages ask for no more
        "ae_title": "ICHNODE",
        "version": "0",
        "history": clinic.history,
        "outbox": clinic.outbox,
        "intake": clinic.intake,
        "judgements": Judgements(clinic.engine),
        "audit": AuditTrail(clinic.engine),
        "clock": lambda: clinic.now,
        "work_list": WorkList(clinic.engine),
        "rules": (SimpleNamespace(name="r", withdraw_rejected=False),),
        "credentials": Credentials(),
        "patients_shown": False,
    }
    server = WebServer(create_app(WebParts(**parts)), host="127.0.0.1", port=0)
    server.start()
    yield httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=30)
    server.stop()


def test_what_was_rejected_and_withdrawn_is_no_finding_any_more(clinic, browser):
    job = clinic.analysed()
    clinic.deliver_to("pacs")
    before = browser.get("/").text
    assert "31.5 mL" in before
    assert '<span class="good nowrap">all 2 delivered</span>' in before
    clinic.reject(job)
    clinic.withdrawing.turn()

    listed = browser.get("/").text
    assert '<span class="state bad">rejected and withdrawn</span>' in listed
    assert "31.5 mL" not in listed
    assert '<span class="quiet nowrap">all 2 delivered</span>' in listed
    assert 'rejection note <span class="warn">pending</span>' in listed
    page = browser.get("/studies/1").text
    assert "Rejected and withdrawn: these are no findings any more." in page
    assert '<table class="cards void">' in page
    assert '<span class="quiet nowrap">all 2 delivered</span>' in page

    assert '<span class="state bad">rejected and withdrawn</span>' in browser.get(f"/studies/1/jobs/{job.id}").text

    clinic.deliver_to("pacs")
    assert "3 delivered" not in browser.get(f"/studies/1/jobs/{job.id}").text
    for path in ("/", "/studies/1"):
        shown = browser.get(path).text
        assert "all 2 delivered" in shown
        assert 'rejection note <span class="good">delivered</span>' in shown
    told = browser.get(f"/api/jobs/{job.id}").json()
    assert (told["verdict"], told["withdrawn"]) == ("rejected", True)


def test_what_was_rejected_alone_is_none_either(clinic, browser):
    job = clinic.analysed()
    clinic.deliver_to("pacs")
    clinic.reject(job, withdraw=False)
    listed, page = browser.get("/").text, browser.get("/studies/1").text
    assert '<span class="state bad">rejected</span>' in listed
    assert "31.5 mL" not in listed
    assert "Rejected: these are no findings any more." in page
    (told,) = browser.get("/api/jobs").json()
    assert (told["verdict"], told["withdrawn"]) == ("rejected", False)


def test_what_was_delivered_stays_in_the_list_while_no_later_job_of_its_series_has_findings(clinic, browser):
    job = clinic.analysed()
    clinic.deliver_to("pacs")
    assert "Earlier findings" not in browser.get("/").text

    def check(state):
        listed = browser.get("/", params={"sort": "volume"}).text
        assert clinic.history.list_jobs()[0].state is state
        assert "Earlier findings, not withdrawn (job 1):" in listed
        assert "<strong>31.5 mL</strong>" in listed
        assert f'href="/studies/1/jobs/{job.id}"' in listed
        assert "all 2 delivered" in listed
        assert re.search(r'<details id="older-\d+" open>', browser.get("/studies/1").text)

    clinic.receive("1", 3)
    clinic.decide("1", input_sha256="more")
    check(JobState.READY)
    clinic.ledger.refuse(clinic.ledger.claim(at=clinic.now), reason="no_brain", detail="", at=clinic.now)
    check(JobState.REFUSED)
    clinic.receive("1", 1, series="1.2")
    clinic.decide("1", input_sha256="other", **BETTER_CAME)
    check(JobState.IGNORED)
    clinic.reject(job, withdraw=False)
    assert "31.5 mL" not in browser.get("/").text


def test_what_no_destination_got_before_a_later_job_took_its_place_is_not_in_the_list(clinic, browser):
    clinic.analysed()
    clinic.receive("1", 1, series="1.2")
    clinic.decide("1", input_sha256="other", **BETTER_CAME)
    assert "31.5 mL" not in browser.get("/").text


def test_the_newest_word_counts_but_brings_nothing_back_that_was_withdrawn(clinic, browser):
    accepted, brought_back = clinic.analysed("1"), clinic.analysed("2")
    unjudged = clinic.analysed("3")
    clinic.reject(accepted, withdraw=False)
    clinic.reject(brought_back)
    for job in (accepted, brought_back):
        clinic.reject(job, ACCEPTED)
    assert clinic.history.standings([accepted.id, brought_back.id, unjudged.id]) == {
        accepted.id: Standing(verdict=Verdict.ACCEPTED, withdrawn=False),
        brought_back.id: Standing(verdict=Verdict.ACCEPTED, withdrawn=True),
    }
    listed = browser.get("/").text
    assert listed.count("31.5 mL") == 2
    assert listed.count('<span class="quiet">accepted</span>') == 1
    assert listed.count('<span class="state bad">withdrawn, then accepted</span>') == 1
    assert browser.get(f"/api/jobs/{unjudged.id}").json()["verdict"] is None


def test_a_page_of_judged_studies_takes_as_many_queries_as_one(clinic, browser):
    counted, numbers = [], []
    event.listen(clinic.engine, "before_cursor_execute", lambda *said: counted.append(said[2]))
    for study in ("1", "2", "3"):
        clinic.reject(clinic.analysed(study))
        for path in ("/", "/api/jobs"):
            counted.clear()
            browser.get(path)
            numbers.append(len([said for said in counted if said.startswith("SELECT")]))
    assert len(set(numbers[::2])) == len(set(numbers[1::2])) == 1


def test_a_note_that_cannot_be_made_is_said_and_not_waited_for(clinic, browser):
    job = clinic.analysed()
    clinic.deliver_to("pacs")
    clinic.reject(job)
    page = f"/jobs/{job.id}/judgement"
    assert "The rejection note is being made." in browser.get(page).text
    for result in clinic.history.results(job.id):
        Path(result.file).write_bytes(b"x")
    clinic.withdrawing.turn()
    said = browser.get(page).text
    assert "being made" not in said
    assert "No rejection note can be made" in said
    assert "by hand at pacs" in said
