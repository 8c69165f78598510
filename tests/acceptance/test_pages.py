"""People use the pages of a running node in Chromium: at a desk, in the dark, on a phone, by keyboard."""

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
SMALL = replace(REGULAR, rows=128, columns=128)


@dataclass(frozen=True)
class Clinic:
    """A node with studies, and a browser."""

    url: str
    browser: Browser
    expander: str  # Study Instance UIDs
    chest: str
    node: Serve

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
    """A simulated expander, a phantom, one that lacks slices, and a chest, at a node that delivers to a PACS."""
    chromium = program("chromium", "chromium")
    folder = tmp_path_factory.mktemp("clinic")
    sections = {"rules": RULES, "completeness": {"quiet_s": 1}, "sources": [{"ae_title": "CT1"}, {"ae_title": "CT2"}]}
    with Pacs() as pacs, Serve(folder, **sections) as node:
        node.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        node.start()
        gap = head_ct(hematoma_ml=0, geometry=SMALL, seed=3)
        gap = replace(gap, datasets=(*gap.datasets[:10], *gap.datasets[13:]))
        chest = sent(
            head_ct(hematoma_ml=0, geometry=SMALL, seed=4),
            folder / "4",
            node.dicom_port,
            BodyPartExamined="CHEST",
            PatientName="SAMPLE^CHEST",
            StudyDescription="CT CHEST",
            SeriesDescription="LUNG",
        )
        sent(gap, folder / "3", node.dicom_port, PatientName="SAMPLE^GAP")
        sent(head_ct(hematoma_ml=20, geometry=REGULAR, seed=2), folder / "2", node.dicom_port)
        expander = sent(simulated_patient(), folder / "1", node.dicom_port)
        node.wait_for_jobs(4, timeout_s=300)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            yield Clinic(f"http://127.0.0.1:{node.web_port}", browser, expander, chest, node)
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
