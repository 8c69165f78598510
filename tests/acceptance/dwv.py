"""dwv, a second real web viewer: the files that its server gives, and what a reader does with it.

It is the npm package of that name with the three that it imports, each fetched once into ~/.cache/ichnode-tests, on a
page of our own (`dwv/index.html`), for dwv is a library. What is shown is read from pictures of the page; where the
pixels of a series lie in them is asked of the viewer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page
from pydicom import Dataset

from tests.acceptance.npm import fetched
from tests.acceptance.web_viewer import chromium_page, viewer_server

DWV_VERSION = "0.36.4"
_PAGE = Path(__file__).parent / "dwv" / "index.html"
_LIBRARIES = {
    "konva.min.js": ("konva@10.2.5", "konva.min.js"),
    "jszip.min.js": ("jszip@3.10.1", "dist/jszip.min.js"),
    "magic-wand.min.js": ("magic-wand-tool@1.1.7", "dist/magic-wand.min.js"),
}

Place = Literal["left", "right"]

_CONTROLLER = "app.getViewLayersByDataId(name)[0].getViewController()"
_ON_SCREEN = f"name => {_CONTROLLER}.getCurrentImageUid()"
_STEPS = f"""([name, uid]) => {{
  const controller = {_CONTROLLER}, origin = controller.getOriginForImageUid(uid);
  const to = app.getImage(name).getGeometry().getOrigins().findIndex(other => other.equals(origin));
  return to - controller.getCurrentIndex().get(2);
}}"""
_CORNERS = """name => {
  const layer = app.getViewLayersByDataId(name)[0], size = app.getImage(name).getGeometry().getSize();
  return [[0.5, 0.5], [size.get(0) - 0.5, size.get(1) - 0.5]].map(([column, row]) => {
    const point = layer.planePosToDisplay(new Point2D(column, row));
    return [point.getX(), point.getY()];
  });
}"""


def dwv_file(path: str) -> Path:
    """The file at `path` of the viewer's URL."""
    if path in _LIBRARIES:
        package, inner = _LIBRARIES[path]
        return fetched(package, inner, f"{package}.js")
    if path.startswith("dwv/"):
        return fetched(f"dwv@{DWV_VERSION}", "dist", f"dwv-{DWV_VERSION}") / path.removeprefix("dwv/")
    return _PAGE


class DwvReader:
    """One browser page with two places for series."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []  # errors that the page has met
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def begin(self) -> None:
        """Open the page, with nothing shown."""
        self.page.goto(self.url)
        self.page.wait_for_function("window.app !== undefined")

    def show(self, ds: Dataset, place: Place = "left") -> str:
        """Show the series of this instance in a place, over what is shown there; gives the viewer's name for it."""
        series = f"studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
        return str(self.page.evaluate("([series, place]) => show(series, place)", [series, place]))

    def slice_count(self, name: str) -> int:
        """How many slices the viewer has of a series."""
        return int(self.page.evaluate("name => app.getImage(name).getGeometry().getSize().get(2)", name))

    def instance_on_screen(self, name: str) -> str:
        """The SOP Instance UID of the slice that is shown of a series."""
        return str(self.page.evaluate(_ON_SCREEN, name))

    def turn_to(self, name: str, sop_instance_uid: str, place: Place = "left") -> None:
        """Turn the mouse wheel, notch by notch, until this instance of the series is on the screen."""
        self.page.locator(f"#{place}").hover()
        while steps := self.page.evaluate(_STEPS, [name, sop_instance_uid]):
            before = self.instance_on_screen(name)
            self.page.mouse.wheel(0, -100 if steps > 0 else 100)
            self.page.wait_for_function(f"([name, before]) => ({_ON_SCREEN})(name) !== before", arg=[name, before])

    def screen(self, place: Place = "left") -> NDArray[np.int16]:
        """A picture of a place as it stands on the screen: (y, x, red green blue)."""
        png = self.page.locator(f"#{place}").screenshot()
        return np.asarray(Image.open(BytesIO(png)).convert("RGB"), np.int16)

    def at_pixels(self, name: str, screen: NDArray[Any]) -> NDArray[Any]:
        """What a picture of the screen has at the middle of each pixel of a series: (row, column, ...)."""
        (left, top), (right, bottom) = self.page.evaluate(_CORNERS, name)
        rows, columns = self._rows_and_columns(name)
        at_row = np.linspace(top, bottom, rows).astype(int)
        at_column = np.linspace(left, right, columns).astype(int)
        return screen[np.ix_(at_row, at_column)]

    def _rows_and_columns(self, name: str) -> tuple[int, int]:
        columns, rows, _ = self.page.evaluate("name => app.getImage(name).getGeometry().getSize().getValues()", name)
        return rows, columns

    def screenshot(self, file: Path) -> None:
        """The whole page, as PNG."""
        self.page.screenshot(path=file)


@contextmanager
def dwv_reader(dicomweb_url: str) -> Iterator[DwvReader]:
    """A reader with dwv on the DICOMweb server at `dicomweb_url`."""
    for path in ("dwv/dwv.min.js", *_LIBRARIES):
        dwv_file(path)  # before a browser waits for it
    with viewer_server(dwv_file, dicomweb_url) as url, chromium_page() as page:
        yield DwvReader(page, url)
