"""A radiologist reviews a simulated expander in Chromium: scrolls, switches, compares; a real head; a phone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydicom import dcmread

from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.imaging.windows import BONE, BRAIN, apply
from ichnode.phantom import Phantom
from ichnode.simulated_patient import simulated_patient
from ichnode.web.slices import outline
from tests.acceptance.npm import fetched
from tests.acceptance.peers import program
from tests.acceptance.serve import Serve
from tests.real_data import real_data
from tests.reviewed_clinic import VIEWER

pytestmark = [pytest.mark.acceptance, pytest.mark.viewer]

AXE = "axe-core@4.10.3"
_PIXELS = """(canvas, [x, y, width, height]) => {
  const context = canvas.getContext('2d');
  return Array.from(context.getImageData(x, y, width, height).data);
}"""


@dataclass(frozen=True)
class Reading:
    """A node with two reviewed studies, and a browser."""

    url: str
    browser: Browser
    expander: dict[str, Any]  # the job, as the API gives it
    head: dict[str, Any]
    patient: Phantom

    def page(self, job: dict[str, Any], **context: Any) -> Page:
        """The review page of a job, with its first picture and its segments there."""
        options = {"viewport": {"width": 1440, "height": 1000}, "color_scheme": "light"} | context
        page = self.browser.new_context(**options).new_page()
        page.set_default_timeout(30_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(f"{self.url}/studies/{job['study_instance_uid']}/jobs/{job['id']}")
        page.locator("#viewer[data-shown]").wait_for()
        if job is self.expander:
            shown(page, "segmentation-1-outline")
        return page


def shown(page: Page, *names: str, slice_: int | None = None) -> None:
    """Wait until the viewer shows these pictures, and that slice."""
    for name in names:
        expect(page.locator("#viewer")).to_have_attribute("data-shown", re.compile(rf"(^| ){re.escape(name)}( |$)"))
    if slice_ is not None:
        expect(page.locator("#viewer")).to_have_attribute("data-shown", re.compile(rf"^{slice_} "))


def not_shown(page: Page, name: str) -> None:
    expect(page.locator("#viewer")).not_to_have_attribute("data-shown", re.compile(name))


def rgb(page: Page, pane: int = 0) -> NDArray[np.int64]:
    """(row, column, RGB) of what a canvas shows."""
    canvas = page.locator("canvas").nth(pane)
    width, height = (int(canvas.get_attribute(side) or 0) for side in ("width", "height"))
    return np.array(canvas.evaluate(_PIXELS, [0, 0, width, height])).reshape(height, width, 4)[..., :3]


def at(page: Page) -> int:
    """The slice that is shown, from 0."""
    return int(str(page.locator("#viewer").get_attribute("data-shown")).split()[0])


def sent(files: list[Path], port: int) -> None:
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    outgoing = [
        Outgoing(sop_class_uid=header.SOPClassUID, sop_instance_uid=header.SOPInstanceUID, file=str(file))
        for header, file in zip(headers, files, strict=True)
    ]
    list(send(Peer(ae_title="ICHNODE", host="127.0.0.1", port=port), outgoing, calling_ae_title="CT"))


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    chromium, patient = program("chromium", "chromium"), simulated_patient()
    folder = tmp_path_factory.mktemp("reading")
    files = [folder / f"{number}.dcm" for number in range(len(patient.datasets))]
    for dataset, file in zip(patient.datasets, files, strict=True):
        dataset.save_as(file, enforce_file_format=True)
    with Serve(folder, completeness={"quiet_s": 1}) as node:
        node.sections["web"] |= {"viewer_url": VIEWER, "patient": "shown"}
        node.start()
        sent(files, node.dicom_port)
        sent(sorted(real_data("ge_head_nct").iterdir()), node.dicom_port)
        jobs = node.wait_for_jobs(2, timeout_s=400)
        (expander,) = [job for job in jobs if job["study_instance_uid"] == patient.datasets[0].StudyInstanceUID]
        (head,) = [job for job in jobs if job is not expander]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            yield Reading(f"http://127.0.0.1:{node.web_port}", browser, expander, head, patient)
            browser.close()


def test_the_page_opens_on_the_largest_hematoma_with_its_outline(reading: Reading, screenshots: Path) -> None:
    page = reading.page(reading.expander)
    mask = reading.patient.hematoma
    found = at(page)
    assert abs(found - int(mask.sum(axis=(1, 2)).argmax())) <= 2
    red = (np.abs(rgb(page) - [230, 60, 60]).max(axis=2) <= 2).nonzero()
    true = outline(mask[found]).nonzero()
    for seen, drawn in zip(red, true, strict=True):
        assert abs(seen.mean() - drawn.mean()) < 6
    page.screenshot(path=screenshots / "review.png")
    assert page.errors == []


def test_the_picture_has_the_gray_of_each_window(reading: Reading) -> None:
    page = reading.page(reading.expander)
    page.keyboard.press("o")
    not_shown(page, "outline")
    slices = sorted(reading.patient.datasets, key=lambda dataset: float(dataset.ImagePositionPatient[2]))
    source = slices[at(page)]
    hu = source.pixel_array * np.float32(source.RescaleSlope) + np.float32(source.RescaleIntercept)
    for key, name, window in (("1", "brain", BRAIN), ("3", "bone", BONE)):
        page.keyboard.press(key)
        shown(page, f"source-{name}", f"predicted-{name}")
        assert (rgb(page)[..., 0] == apply(hu, window)).all()


def test_the_wheel_the_keys_the_slider_and_a_finger_scroll_both_pictures(reading: Reading) -> None:
    page = reading.page(reading.expander)
    key = at(page)
    page.locator("canvas").first.hover()
    page.mouse.wheel(0, 100)
    shown(page, "source-brain", "predicted-brain", slice_=key + 1)
    for label in page.locator("canvas").all():
        assert f"slice {key + 2} of" in str(label.get_attribute("aria-label"))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    shown(page, slice_=key - 1)
    page.keyboard.press("Home")
    shown(page, slice_=0)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    shown(page, slice_=len(reading.patient.datasets) - 1)
    page.locator("#slice").focus()
    page.keyboard.press("ArrowLeft")
    shown(page, slice_=len(reading.patient.datasets) - 2)
    for pressed, to in (("Home", 0), ("ArrowDown", 1), ("PageDown", 6), ("ArrowUp", 5), ("PageUp", 0)):
        page.keyboard.press(pressed)  # on the slider they mean what they mean in the viewer
        shown(page, slice_=to)
        expect(page.locator("#slice")).to_have_value(str(to + 1))
    page.get_by_role("button", name="Largest hematoma").click()
    shown(page, slice_=key)
    finger = {"pointerType": "touch", "clientX": 50, "bubbles": True}
    page.locator("canvas").first.dispatch_event("pointerdown", finger | {"clientY": 300})
    page.locator("canvas").first.dispatch_event("pointermove", finger | {"clientY": 270})
    shown(page, slice_=key + 2)


def test_each_segment_has_an_outline_and_a_fill_that_are_switched_alone(reading: Reading) -> None:
    page = reading.page(reading.expander)
    page.get_by_label("outline of Intracerebral hematoma (AI)").uncheck()
    not_shown(page, " segmentation-1-outline")
    page.get_by_label("outline of Predicted 24h hematoma (AI prediction)").uncheck()
    not_shown(page, "outline")
    bare = rgb(page)
    page.get_by_label("fill of Intracerebral hematoma (AI)").check()
    shown(page, "segmentation-1-fill")
    weak = rgb(page)
    page.get_by_label("Opacity of the fill in percent").fill("100")
    page.wait_for_timeout(300)  # the same pictures are drawn again, and nothing tells that
    full = rgb(page)
    filled = (full == [230, 60, 60]).all(axis=2)
    assert filled.sum() > 100
    assert (full[~filled] == bare[~filled]).all()
    expected = 0.35 * np.array([230, 60, 60]) + 0.65 * bare[filled]
    assert np.abs(weak[filled] - expected).max() <= 2
    page.get_by_label("fill of Predicted 24h hematoma growth").check()
    shown(page, "predicted_segmentation-2-fill")


def test_what_lies_beside_the_source_is_chosen_by_key_or_menu(reading: Reading, screenshots: Path) -> None:
    page = reading.page(reading.expander)
    assert "SYNTHETIC, not acquired" in page.locator(".pane").nth(1).inner_text()
    page.keyboard.press("b")
    shown(page, "difference")
    page.locator(".viewer").screenshot(path=screenshots / "review-difference.png")
    page.locator("#beside").select_option("expansion_saliency")
    shown(page, "expansion_saliency")
    picture = rgb(page, 1)
    assert (picture[..., 0] > picture[..., 2] + 40).any()
    page.locator(".viewer").screenshot(path=screenshots / "review-saliency.png")
    page.locator("#viewer").focus()
    page.keyboard.press("Home")
    expect(page.locator(".pane").nth(1)).to_contain_text("no such picture of this slice")
    page.locator("#beside").select_option("")
    expect(page.locator(".pane").nth(1)).to_be_hidden()


def test_outlines_that_cannot_be_loaded_are_told_and_asked_for_again(reading: Reading) -> None:
    page = reading.page(reading.expander)
    page.route("**/layers", lambda route: route.fulfill(status=503))
    page.reload()
    expect(page.locator("#trouble")).to_contain_text("could not be loaded")
    expect(page.locator(".pane").nth(1)).not_to_contain_text("no such picture")
    page.unroute("**/layers")
    page.route("**/layers", lambda route: route.abort())
    page.wait_for_event("requestfailed", predicate=lambda request: request.url.endswith("/layers"))
    page.unroute("**/layers")
    expect(page.locator("#trouble")).to_be_empty(timeout=30_000)
    shown(page, "segmentation-1-outline", "predicted-brain")
    assert page.errors == []


def test_a_segmentation_that_the_node_cannot_read_is_told(reading: Reading) -> None:
    page = reading.page(reading.expander)
    unreadable = {"segmentation": "Hematoma segmentation", "predicted": "Predicted follow-up"}
    layers = {"segments": [], "pictures": {}, "unreadable": unreadable}
    page.route("**/layers", lambda route: route.fulfill(json=layers))
    page.reload()
    expect(page.locator("#trouble")).to_contain_text("Hematoma segmentation, Predicted follow-up")
    expect(page.locator(".pane").nth(1)).to_contain_text("this picture cannot be read")


def test_an_outline_that_cannot_be_shown_is_told_on_its_slice(reading: Reading) -> None:
    page, missing = reading.page(reading.expander), "cannot be shown: outline of Intracerebral hematoma"
    page.route("**/segmentation-1-outline.png", lambda route: route.abort())
    page.reload()
    expect(page.locator(".pane").first).to_contain_text(missing)
    page.unroute("**/segmentation-1-outline.png")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".pane").first).not_to_contain_text(missing)


def test_a_picture_that_never_comes_does_not_hold_the_viewer_for_ever(reading: Reading) -> None:
    page = reading.page(reading.expander)
    key = at(page)
    page.route(f"**/slices/{key + 1}/source-brain.png", lambda route: None)
    page.clock.install()
    page.reload()
    shown(page, "segmentation-1-outline", slice_=key)
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)
    assert at(page) == key
    page.clock.fast_forward(16_000)
    shown(page, slice_=key + 1)
    expect(page.locator(".pane").first).to_contain_text("this picture cannot be shown")
    page.keyboard.press("ArrowUp")
    shown(page, slice_=key)


def test_numbers_reports_models_and_links_stand_below(reading: Reading) -> None:
    page = reading.page(reading.expander)
    expect(page.get_by_role("region", name="Numbers")).to_contain_text("Volume by ABC/2")
    expect(page.get_by_role("region", name="Models")).to_contain_text("simulated patients")
    reports = page.get_by_role("region", name="Reports as they were sent")
    reports.get_by_text("Predictions", exact=True).click()
    expect(reports).to_contain_text("Probability of hematoma expansion within 24 h")
    page.get_by_text("Summary page as it was sent").click()
    expect(page.locator("img.page")).to_have_js_property("naturalWidth", 1024)
    link = page.get_by_role("link", name="Open in the site's viewer")
    assert reading.expander["study_instance_uid"] in str(link.get_attribute("href"))
    page.get_by_role("link", name="Newer study").click()
    expect(page).to_have_url(re.compile(f"/jobs/{reading.head['id']}$"))


def test_a_real_head_without_hematoma_opens_in_its_middle(reading: Reading, screenshots: Path) -> None:
    page = reading.page(reading.head, color_scheme="dark")
    expect(page.get_by_text("No hematoma found").first).to_be_visible()
    assert at(page) == 14
    assert page.locator("#segments").is_hidden()
    page.locator("#viewer").press("ArrowDown")
    shown(page, slice_=15)
    page.screenshot(path=screenshots / "review-real-dark.png")
    assert page.errors == []


def test_a_phone_shows_one_picture_and_nothing_beyond_its_edge(reading: Reading, screenshots: Path) -> None:
    page = reading.page(reading.expander, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    expect(page.locator(".pane").nth(1)).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=screenshots / "review-phone.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(reading: Reading, scheme: str) -> None:
    page = reading.page(reading.expander, color_scheme=scheme, bypass_csp=True)
    page.locator("table.report").first.wait_for(state="attached")
    page.evaluate(fetched(AXE, "axe.min.js", f"{AXE}.js").read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []
