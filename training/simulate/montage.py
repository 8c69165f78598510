"""Montage: a lightbox of simulated patients, one a row, beside a real head in the same window if there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ichnode.domain.study import Series
from ichnode.imaging import windows
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.volume import Volume
from training.simulate.acquire import SimulatedCT
from training.simulate.truth import volumes_ml

TITLE = "SIMULATED PATIENTS - RESEARCH USE ONLY"
_TILE = 232  # pixels
_FIELD_MM = 215.0  # shown of each slice
_COLUMNS = 8
_HEAD_MM = (-38.0, 68.0)  # heights of the first and the last column, from the middle of the brain
_TEXT, _OUTLINE = (150, 150, 150), (230, 60, 60)
_LINE = 18  # pixels of text and its gap

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strip:
    """One row: some slices of one head, and what is written under it."""

    tiles: Pixels  # (row, column, colour)
    caption: str


def simulated_strip(ct: SimulatedCT, *, outline: bool = False) -> Strip:
    """A simulated CT, on request with its truth."""
    volumes = ", ".join(f"{name} {ml:.1f} mL" for name, ml in volumes_ml(ct).items() if name != "all")
    when = f"follow-up after {ct.spec.followup_h:.0f} h" if ct.followup else "first CT"
    caption = (
        f"SIMULATED ({ct.style})  {ct.spec.seed}  {ct.spec.age:.0f} {ct.spec.sex}  {when}  {volumes or 'no hemorrhage'}"
    )
    return strip(ct.volume, ct.labels if outline else None, caption)


def real_strip(series: Series) -> Strip:
    """A real head CT. Raises RefusedSeries and OSError."""
    header = series.instances[0].header
    name = " ".join(str(header.get(keyword, "")) for keyword in ("Manufacturer", "ManufacturerModelName"))
    return strip(read_volume(series), None, f"REAL  {name}")


def strip(volume: Volume, labels: NDArray[np.uint8] | None, caption: str) -> Strip:
    """Slices from the skull base to the vertex; where there are `labels`, a thin red outline around all of them."""
    marked = np.zeros(volume.grid.shape, bool) if labels is None else labels > 0
    tiles = [_tile(volume, index, marked[index]) for index in _shown(volume)]
    return Strip(tiles=np.concatenate(tiles, axis=1), caption=caption)


def write_montage(strips: Sequence[Strip], file: Path) -> None:
    """All rows as one PNG, with the title above."""
    height, width = strips[0].tiles.shape[:2]
    sheet = Image.new("RGB", (width, 2 * _LINE + len(strips) * (height + _LINE)))
    pen, small, large = ImageDraw.Draw(sheet), ImageFont.load_default(12), ImageFont.load_default(18)
    pen.text((8, 6), TITLE, fill=(255, 255, 255), font=large)
    for number, one in enumerate(strips):
        top = 2 * _LINE + number * (height + _LINE)
        sheet.paste(Image.fromarray(one.tiles), (0, top))
        pen.text((8, top + height + 2), one.caption, fill=_TEXT, font=small)
    sheet.save(file, optimize=True)


def _shown(volume: Volume) -> list[int]:
    """Slices that are evenly spaced, counted down from the vertex: there the head ends in every field of view."""
    inside = (volume.hu > -300).mean(axis=(1, 2)) > 0.02
    top = volume.grid.offsets_mm[np.flatnonzero(inside)[-1]] if inside.any() else volume.grid.offsets_mm[-1]
    wanted = top - 92.0 + np.linspace(*_HEAD_MM, _COLUMNS)
    return [int(abs(volume.grid.offsets_mm - height).argmin()) for height in wanted]


def _tile(volume: Volume, index: int, marked: NDArray[np.bool_]) -> Pixels:
    grey = windows.apply(volume.hu[index], windows.BRAIN)
    box = _box(volume)
    shown = np.asarray(_cropped(grey, box, Image.Resampling.BICUBIC)).copy()
    colours = np.stack([shown] * 3, axis=-1)
    mask = np.asarray(_cropped(marked.astype(np.uint8) * 255, box, Image.Resampling.BILINEAR)) > 127
    colours[ndimage.binary_dilation(mask) & ~mask] = _OUTLINE
    return colours


def _box(volume: Volume) -> tuple[float, float, float, float]:
    """Left, upper, right, lower edge of what is shown, in pixels: a square around the middle of the image."""
    (row_mm, column_mm), (_, rows, columns) = volume.grid.pixel_spacing_mm, volume.grid.shape
    down, across = _FIELD_MM / row_mm / 2, _FIELD_MM / column_mm / 2
    return columns / 2 - across, rows / 2 - down, columns / 2 + across, rows / 2 + down


def _cropped(image: Pixels, box: tuple[float, float, float, float], how: Image.Resampling) -> Image.Image:
    """`box` as a tile; black where it reaches beyond the image."""
    reach = int(max(0.0, -min(box[:2]))) + 1
    left, upper, right, lower = (edge + reach for edge in box)
    padded = Image.fromarray(np.pad(image, reach))
    return padded.resize((_TILE, _TILE), how, box=(left, upper, right, lower))
