"""The review page in a real browser: from the click to the first picture, and from a key to the next slice.

Beside it the same slice, asked of Orthanc as a picture by the same browser. What is timed ends after the paint. Each
round has a node without anything in its memory, and a browser without anything in its cache.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ichnode.domain.job import Job
from ichnode.phantom import REGULAR, head_ct
from ichnode.storage.schema import open_engine
from tests.acceptance.orthanc import Orthanc
from tests.acceptance.peers import program
from tests.benchmarks.table import ICHNODE, Row, ratios
from tests.results_factory import Case
from tests.reviewed_clinic import ReviewedClinic, page_of

TITLE = "Review in Chromium: first picture after the click, next slice after the key"
PEER = "Orthanc, /instances/{id}/rendered"
_STEPS = 8  # keys a round, at the pace of a reader
_PACE_MS = 150
_LOOKED_MS = 1000  # at the work list or a study, by a reader who then goes on
_WATCH = """
const now = () => performance.timeOrigin + performance.now();
window.seen = [];
for (const event of ['click', 'keydown']) addEventListener(event, () => { sessionStorage.began = now(); }, true);
new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => window.seen.push(now()))))
  .observe(document, { subtree: true, attributes: true, attributeFilter: ['data-shown'] });
"""
_TOOK = """count => new Promise(answer => {
  const took = () => window.seen[count] - sessionStorage.began;
  const look = () => window.seen.length > count ? answer(took()) : setTimeout(look, 1);
  look();
})"""
_ASK = """async address => {
  const began = performance.now(), image = new Image(), canvas = document.createElement('canvas');
  document.body.append(canvas);
  image.src = address;
  await image.decode();
  canvas.width = image.width; canvas.height = image.height;
  canvas.getContext('2d').drawImage(image, 0, 0);
  return new Promise(answer => requestAnimationFrame(() => setTimeout(() => answer(performance.now() - began))));
}"""


def measure(*, size: int = 512, rounds: int = 7) -> list[Row]:
    """Two studies of 32 slices, one with all results; milliseconds."""
    taken: dict[str, list[float]] = {
        case: [] for case in ("first", "other", "straight", "next", "unseen", "asked", "peer")
    }
    with tempfile.TemporaryDirectory(prefix="ichnode-benchmark-") as folder:
        clinic, jobs, files = _prepared(Path(folder), size)
        with _peer(Path(folder), files) as pictures, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=["--no-sandbox"])
            for number in range(rounds + 1):
                node = _node(clinic)
                one_round = _round(browser, node, jobs[0]) | _asked(browser, node, jobs[0], pictures)
                for case, looked_ms in (("other", _LOOKED_MS), ("straight", 0)):
                    page, first = _first(browser, _node(clinic), page_of(jobs[1]), jobs[0], looked_ms=looked_ms)
                    page.context.close()
                    one_round[case] = [first]
                for case, values in one_round.items() if number else ():  # the first round warms everybody up
                    taken[case].append(median(values))
            browser.close()
        clinic.close()
    return _rows(taken, f"{len(files)} slices of {size}, headless Chromium, two pictures with outlines")


def _rows(taken: dict[str, list[float]], setting: str) -> list[Row]:
    peer = taken["peer"]
    rows = []
    for name, case, goal, note in (
        ("first", "first picture after the click", "< 300 ms", "from the work list; the page included"),
        ("other", "the same, from another study", "< 300 ms", "that was looked at for a second"),
        ("straight", "the same, going straight on", "", "from a study whose own first picture came that moment"),
        ("next", "next slice after the key", "< 50 ms", "fetched ahead, as a reader meets it; two pictures"),
        ("unseen", "a slice far away after the key", "", "not fetched ahead; two pictures"),
        ("asked", "one slice, asked for and drawn", "", "one picture, as the peer"),
    ):
        rows.append(
            Row(
                case=case,
                contestant=ICHNODE,
                setting=setting,
                value=median(taken[name]),
                unit="ms",
                goal=goal,
                note=note,
            )
        )
        if name in ("first", "other", "straight"):
            continue  # a page: the peer's picture has none around it
        rows.append(
            Row(
                case=case,
                contestant=PEER,
                setting=setting,
                value=median(peer) if peer else None,
                unit="ms",
                ratio=ratios(taken[name], peer),
                note="one picture, asked for and drawn",
            )
        )
    return rows


def _prepared(folder: Path, size: int) -> tuple[ReviewedClinic, list[Job], list[Path]]:
    """A study with results, one without, and the files of the first in their order."""
    clinic = ReviewedClinic(open_engine(f"sqlite:///{folder}/ichnode.db"), folder)
    jobs, files = [], list[Path]()
    for seed in (1, 2):
        phantom = head_ct(hematoma_ml=30, geometry=replace(REGULAR, rows=size, columns=size), seed=seed)
        clinic.receive_datasets(phantom.datasets)
        clinic.decide_on(phantom.datasets[0])
        jobs.append(clinic.finish_with(Case(phantom.datasets, phantom.hematoma), None if seed == 1 else ()))
        if seed == 1:
            files = [folder / f"{number}.dcm" for number in range(len(phantom.datasets))]
            for dataset, file in zip(phantom.datasets, files, strict=True):
                dataset.save_as(file, enforce_file_format=True)
    return clinic, jobs, files


@contextmanager
def _peer(folder: Path, files: list[Path]) -> Iterator[list[str]]:
    """Addresses of the slices as Orthanc renders them in a brain window; none where it is not installed."""
    try:
        orthanc = Orthanc(folder / "orthanc").__enter__()
    except pytest.skip.Exception:
        yield []
        return
    try:
        stored = [
            httpx.post(f"{orthanc.http_url}/instances", content=file.read_bytes(), trust_env=False).json()["ID"]
            for file in files
        ]
        window = "window-center=40&window-width=80"
        yield [f"{orthanc.http_url}/instances/{one}/rendered?{window}" for one in stored]
    finally:
        orthanc.__exit__()


def _page(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.add_init_script(_WATCH)
    page.goto(address)
    return page


def _node(clinic: ReviewedClinic) -> str:
    return str(clinic.browser().base_url).rstrip("/")


def _first(browser: Browser, node: str, path: str, job: Job, *, looked_ms: int) -> tuple[Page, float]:
    """From a page of the node to that of the job, by its link; that page, and the time to its first picture."""
    page = _page(browser, node + path)
    if path != "/":
        page.locator("#viewer[data-shown]").wait_for()
    page.wait_for_timeout(looked_ms)
    page.locator(f"a[href$='{page_of(job)}']").first.click()
    page.wait_for_url(f"**{page_of(job)}")
    return page, float(page.evaluate(_TOOK, 0))


def _round(browser: Browser, node: str, job: Job) -> dict[str, list[float]]:
    """From the work list to the study, and on by keys."""
    page, first = _first(browser, node, "/", job, looked_ms=_LOOKED_MS)
    page.locator("#viewer[data-shown*=outline]").wait_for()
    page.wait_for_timeout(1000)
    taken: dict[str, list[float]] = {"first": [first], "next": [], "unseen": []}
    for key in [*["ArrowDown"] * _STEPS, "Home"]:
        count = int(page.evaluate("window.seen.length"))
        page.keyboard.press(key)
        taken["unseen" if key == "Home" else "next"].append(float(page.evaluate(_TOOK, count)))
        page.wait_for_timeout(_PACE_MS)
    page.context.close()
    return taken


def _asked(browser: Browser, node: str, job: Job, pictures: list[str]) -> dict[str, list[float]]:
    """The same slices, each asked for once, of ichnode and of the peer."""
    taken: dict[str, list[float]] = {}
    chosen = range(0, len(pictures) or 8, 3)
    ours: list[Any] = [
        f"{node}{page_of(job)}/slices/{index}/source-blood.png" for index in chosen
    ]  # drawn by nobody yet
    for case, addresses in (("asked", ours), ("peer", [pictures[index] for index in chosen] if pictures else [])):
        if addresses:
            page = _page(browser, addresses[0])  # a page of the same origin
            taken[case] = [float(page.evaluate(_ASK, address)) for address in addresses[1:]]
            page.context.close()
    return taken
