"""People use the pages of a running node in Chromium: at a desk, in the dark, on a phone, by keyboard."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.phantom import REGULAR, Phantom, head_ct
from ichnode.simulated_patient import simulated_patient
from tests.acceptance.npm import fetched
from tests.acceptance.peers import program
from tests.acceptance.serve import Serve
from tests.pacs import Pacs

pytestmark = [pytest.mark.acceptance, pytest.mark.viewer]

AXE = "axe-core@4.10.3"
RULES = [
    {"name": "head-ct", "run": ["hematoma", "expansion", "prognosis", "volume_survival"], "send_to": ["pacs"]},
    {
        "name": "volume-only",
        "match": {"SeriesDescription": {"regex": "never"}},
        "run": ["hematoma"],
        "send_to": ["pacs"],
    },
]
CHEST = {"BodyPartExamined": "CHEST", "PatientName": "SAMPLE^CHEST", "StudyDescription": "CT CHEST"}
SMALL = replace(REGULAR, rows=128, columns=128)


@dataclass(frozen=True)
class Clinic:
    """A node with studies, and a browser."""

    url: str
    browser: Browser
    expander: str  # Study Instance UIDs
    chest: str
    node: Serve
    folder: Path

    def page(self, path: str = "/", **context: object) -> Page:
        page = self.browser.new_context(**context).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(20_000)
        page.goto(self.url + path)
        return page


def sent(phantom: Phantom, folder: Path, port: int, **header: str) -> str:
    """Send it to the node as a scanner does; its Study Instance UID."""
    folder.mkdir()
    outgoing = []
    for number, dataset in enumerate(phantom.datasets):
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        file = folder / f"{number}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        uids = dataset.SOPClassUID, dataset.SOPInstanceUID
        outgoing.append(Outgoing(sop_class_uid=uids[0], sop_instance_uid=uids[1], file=str(file)))
    list(send(Peer(ae_title="ICHNODE", host="127.0.0.1", port=port), outgoing, calling_ae_title="CT1"))
    return str(phantom.datasets[0].StudyInstanceUID)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A simulated expander, a head that lacks slices, and a chest, at a node that delivers to a PACS."""
    chromium = program("chromium", "chromium")
    folder = tmp_path_factory.mktemp("clinic")
    sections = {
        "rules": RULES,
        "completeness": {"quiet_s": 1},
        "sources": [{"ae_title": "CT1"}, {"ae_title": "CT2"}],
        "inference": {"device": "cpu", "deadline_s": 400},
    }
    with Pacs() as pacs, Serve(folder, **sections) as node:
        node.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        node.start()
        gap = head_ct(hematoma_ml=0, geometry=SMALL, seed=3)
        gap = replace(gap, datasets=(*gap.datasets[:10], *gap.datasets[13:]))
        chest = sent(head_ct(hematoma_ml=0, geometry=SMALL, seed=4), folder / "chest", node.dicom_port, **CHEST)
        sent(gap, folder / "gap", node.dicom_port, PatientName="SAMPLE^GAP")
        expander = sent(simulated_patient(), folder / "expander", node.dicom_port)
        node.wait_for_jobs(3, timeout_s=450)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            yield Clinic(f"http://127.0.0.1:{node.web_port}", browser, expander, chest, node, folder)
            browser.close()


PAGES = ("worklist", "study", "rules", "health")


def path_of(name: str, clinic: Clinic) -> str:
    paths = {"worklist": "/", "study": f"/studies/{clinic.expander}", "rules": f"/rules?study={clinic.chest}"}
    return paths.get(name, f"/{name}")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    ("look", "context"),
    [
        ("light", {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}),
        ("dark", {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "is_mobile": True}),
    ],
    ids=["light", "dark", "phone"],
)
def test_every_page_is_accessible_and_needs_no_scrolling_sideways(clinic, screenshots, name, look, context):
    page = clinic.page(path_of(name, clinic), **context)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.reload()
    expect(page.locator("h1")).to_have_count(1)
    page.screenshot(path=screenshots / f"{name}-{look}.png", full_page=look == "phone")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.evaluate(fetched(AXE, "axe.min.js", f"{AXE}.js").read_text("utf-8"))
    found = page.evaluate("axe.run()")
    grave = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert grave == []
    assert len(found["passes"]) > 10
    assert complaints == []  # nothing that the Content-Security-Policy forbids, nothing that is not there


def test_the_keyboard_moves_opens_and_searches(clinic):
    page = clinic.page()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("[data-open]").nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(page.locator("[data-open]").first).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("chest")
    expect(page.locator("[data-row]")).to_have_count(1)
    expect(page).to_have_url(re.compile("text=chest"))
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{clinic.url}/studies/{clinic.chest}")


def test_a_study_appears_while_somebody_looks_and_what_was_open_stays_open(clinic):
    page = clinic.page()
    expect(page.locator("#live")).to_have_text("live")
    before = page.locator("[data-row]").count()
    page.locator("details").first.click()
    chest = head_ct(hematoma_ml=0, geometry=SMALL, seed=5)
    sent(chest, clinic.folder / "later", clinic.node.dicom_port, **CHEST | {"PatientName": "LATE^COMER"})
    expect(page.locator("[data-row]")).to_have_count(before + 1)
    expect(page.locator("[data-row]").first).to_contain_text("L*** C***")
    expect(page.locator("details[open]")).to_have_count(1)


def test_a_person_tries_a_refused_series_again_and_sees_what_becomes_of_it(clinic):
    page = clinic.page("/?show=attention")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#said")).to_contain_text("is ready again")
    row = page.locator("[data-row]")
    expect(row).to_contain_text("tried again")
    expect(row).to_contain_text("refused", timeout=60_000)
    assert page.get_by_role("button", name="Retry").count() == 1


def test_an_administrator_calls_the_pacs(clinic):
    page = clinic.page("/health")
    page.get_by_role("button", name="Call pacs").click()
    expect(page.locator("#said")).to_contain_text("C-ECHO 0x0000")
    expect(page.locator("#health")).to_contain_text("C-ECHO 0x0000")


def test_the_rules_page_says_why_a_chest_is_ignored(clinic):
    page = clinic.page("/rules")
    page.get_by_label("A study that is here").select_option(clinic.chest)
    page.get_by_role("button", name="Decide it again").click()
    expect(page.get_by_role("row", name="head equals True").first).to_contain_text("no")
