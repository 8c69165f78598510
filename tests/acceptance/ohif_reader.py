"""What a reader does with OHIF: open a study, open a series, say yes, scroll, look.

Everything waits for a condition inside the page. Pictures are read from the viewport's own canvas, and places in them
are asked of the viewer, so that a test compares what is shown, and where, with what the DICOM objects say.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, TimeoutError

from tests.acceptance.ohif import ohif_dist, ohif_file
from tests.acceptance.web_viewer import chromium_page, viewer_server

_SEGMENTATION_QUESTION = "Do you want to open this Segmentation?"
_ASKED_MS = 20_000
# thumbnails have viewports too, and sometimes the first rendering engine
_VIEWPORT = """(window.cornerstone?.getRenderingEngines() ?? []).flatMap(engine => engine.getViewports())
  .find(viewport => viewport.element.closest('[data-cy=viewport-pane]'))"""
_RENDERED = f"{_VIEWPORT}?.viewportStatus === 'rendered'"
_IMAGE = f"{_VIEWPORT}.csImage?.imageId"
_ON_CONTOUR = f"""{_RENDERED} && window.cornerstoneTools.annotation.state.getAllAnnotations().some(
  annotation => annotation.metadata.referencedImageId === {_VIEWPORT}.getCurrentImageId())"""
# the CT is grey: red and amber are what segments are painted with
_PAINTED = f"""() => {{
  const canvas = {_VIEWPORT}.canvas, width = canvas.width;
  const rgba = canvas.getContext('2d').getImageData(0, 0, width, canvas.height).data;
  let count = 0, x = 0, y = 0;
  for (let i = 0; i < rgba.length; i += 4)
    if (rgba[i] - rgba[i + 2] > 20) {{ count++; x += (i / 4) % width; y += Math.floor(i / 4 / width); }}
  return {{ count, x: x / count, y: y / count }};
}}"""
_LIT_SHARE = f"""() => {{
  const canvas = {_VIEWPORT}.canvas;
  const rgba = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < rgba.length; i += 4) if (rgba[i + 1] > 40) count++;
  return count / (canvas.width * canvas.height);
}}"""
_STILL = f"""async () => {{
  const painted = {_PAINTED};
  let seen = painted();
  for (let same = 0; same < 4; ) {{
    await new Promise(requestAnimationFrame);
    const now = painted();
    same = now.count === seen.count && {_RENDERED} ? same + 1 : 0;
    seen = now;
  }}
  const world = (x, y) => {_VIEWPORT}.canvasToWorld([x, y]);
  const [origin, right, middle] = [world(0, 0), world(1, 0), seen.count ? world(seen.x, seen.y) : null];
  const pixel_mm = Math.hypot(...right.map((value, axis) => value - origin[axis]));
  return {{ area_mm2: seen.count * pixel_mm ** 2, centre_lps: middle && Array.from(middle) }};
}}"""
_KEEP_COMPLAINTS = """
window.complaints = [];
new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(node => {
  if (node.matches?.('[data-sonner-toast]')) window.complaints.push(node.innerText);
}))).observe(document, { childList: true, subtree: true });
"""
_CONTOURS = f"""() => [...document.querySelectorAll('svg.svg-layer polyline')].map(line =>
  Array.from(line.points, point => Array.from({_VIEWPORT}.canvasToWorld([point.x, point.y]))))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Painted:
    """The part of the viewport that is painted red or amber, as the viewer itself converts pixels to millimetres."""

    area_mm2: float
    centre_lps: tuple[float, ...] | None  # of mass, mm; None where nothing is painted


class OhifReader:
    """One browser page with one viewport."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def open_study(self, study_instance_uid: str) -> None:
        """Open a study and wait until its first image is on the screen."""
        self.page.goto(f"{self.url}/viewer?StudyInstanceUIDs={study_instance_uid}", wait_until="commit")
        self.page.wait_for_function(f"{_RENDERED} && {_IMAGE}")

    def listed_series(self) -> list[str]:
        """The Series Descriptions of the study browser."""
        return self.page.locator("[data-cy=series-description-label]").all_inner_texts()

    def open_series(self, description: str) -> None:
        """Double-click a series in the study browser."""
        labels = self.page.locator("[data-cy=series-description-label]")
        labels.get_by_text(description, exact=True).dblclick()

    def open_images(self, description: str, series_instance_uid: str) -> int:
        """Open an image series and wait until it is on the screen; gives how many images the viewer has of it."""
        self.open_series(description)
        self.page.wait_for_function(f"{_RENDERED} && {_IMAGE}.includes('/{series_instance_uid}/')")
        return int(self.page.evaluate(f"{_VIEWPORT}.getImageIds().length"))

    def open_segmentation(self, description: str) -> None:
        """Open a SEG series, say yes, and wait until a segment is on the screen: the viewer jumps to one.

        OHIF 3.12.10 on a slow machine once did not ask within a minute: then the reader double-clicks again.
        """
        self.open_series(description)
        notification = self.page.locator("[data-cy=viewport-notification]")
        question = notification.get_by_text(_SEGMENTATION_QUESTION)
        try:
            question.wait_for(timeout=_ASKED_MS)
        except TimeoutError:
            self.open_series(description)
            question.wait_for()
        notification.locator("[data-cy=yes-hydrate-btn]").click()
        notification.wait_for(state="hidden")
        self.page.wait_for_function(f"({_PAINTED})().count > 0")

    def open_outline(self, description: str) -> None:
        """Open an SR series and wait until a contour is drawn: the viewer jumps to its slice.

        OHIF 3.12.10 on a slow machine often has the contour but forgets to draw it until the slice is drawn again, so
        the reader turns the wheel to the next slice and back.
        """
        self.open_series(description)
        self.page.wait_for_function(_ON_CONTOUR)
        at = self._index()
        self._turn_to(at - 1 if at else 1)
        self._turn_to(at)
        self.page.locator("svg.svg-layer polyline").first.wait_for(state="attached")
        self.page.locator("svg.svg-layer text").first.wait_for()

    def drawn_text(self) -> list[str]:
        """The lines of text that annotations show on this slice."""
        return self.page.locator("svg.svg-layer text tspan").all_text_contents()

    def drawn_contours(self) -> list[NDArray[np.float64]]:
        """The contours that annotations draw on this slice, each (point, 3) in LPS mm."""
        return [np.array(points) for points in self.page.evaluate(_CONTOURS)]

    def complaints(self) -> list[str]:
        """What the viewer has told the reader in passing since the study was opened, such as a missing colour."""
        return [str(text) for text in self.page.evaluate("window.complaints")]

    def show_instance(self, sop_instance_uid: str) -> None:
        """Turn the mouse wheel until the instance is on the screen."""
        place = f"{_VIEWPORT}.getImageIds().findIndex(id => id.includes('/{sop_instance_uid}/'))"
        index = int(self.page.evaluate(place))
        assert index >= 0, f"{sop_instance_uid} is not among the images of the viewport"
        self._turn_to(index)

    def _index(self) -> int:
        return int(self.page.evaluate(f"{_VIEWPORT}.getCurrentImageIdIndex()"))

    def _turn_to(self, index: int) -> None:
        """Turn the mouse wheel, notch by notch, until the image of this index is on the screen."""
        self.page.locator("[data-cy=viewport-pane]").hover()
        while (at := self._index()) != index:
            step = 1 if index > at else -1
            self.page.mouse.wheel(0, 100 * step)
            self.page.wait_for_function(f"{_VIEWPORT}.getCurrentImageIdIndex() === {at + step}")
        self.page.wait_for_function(f"{_RENDERED} && {_IMAGE} === {_VIEWPORT}.getImageIds()[{index}]")

    def painted(self) -> Painted:
        """What is painted over the CT, as soon as the picture stands still."""
        seen = self.page.evaluate(_STILL)
        centre = tuple(seen["centre_lps"]) if seen["centre_lps"] else None
        return Painted(area_mm2=seen["area_mm2"], centre_lps=centre)

    def lit_share(self) -> float:
        """The share of the viewport that is not black or nearly so."""
        return float(self.page.evaluate(_LIT_SHARE))

    def screenshot(self, file: Path) -> None:
        """The whole page, as PNG."""
        self.page.screenshot(path=file)


@contextmanager
def ohif_reader(dicomweb_url: str) -> Iterator[OhifReader]:
    """A reader with OHIF on the DICOMweb server at `dicomweb_url`."""
    ohif_dist()  # before a browser waits for it
    with viewer_server(ohif_file, dicomweb_url) as url, chromium_page() as page:
        page.add_init_script(_KEEP_COMPLAINTS)
        yield OhifReader(page, url)
