"""One RGB page for every viewer: three slices with the hematoma outlined, the numbers beside them, the warning above.

The page is Secondary Capture with burned-in text, for viewers that show neither segmentations nor reports.
"""

from dataclasses import replace
from itertools import chain, count

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydicom.dataset import Dataset

from ichnode.domain.findings import Findings
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask, Volume
from ichnode.imaging.windows import BRAIN, apply
from ichnode.results.colours import HEMATOMA_RGB
from ichnode.results.key_slices import page_slice_indices
from ichnode.results.provenance import (
    RESEARCH_BANNER,
    Provenance,
    Result,
    Role,
    finish,
)
from ichnode.results.rgb_capture import Pixels, rgb_capture
from ichnode.results.source_headers import direction_letter
from ichnode.results.summary_text import AMBER, WHITE, Line, summary_lines

PAGE_SIZE = 1024
BANNER_HEIGHT = 48
_LARGE, _SMALL, _GAP, _TOP = 620, 304, 12, BANNER_HEIGHT + 12
_TEXT_LEFT = _LARGE + 3 * _GAP
_TEXT_WIDTH, _TEXT_HEIGHT = PAGE_SIZE - _TEXT_LEFT - _GAP, PAGE_SIZE - _TOP - _GAP
_LINE_HEIGHT = 1.35  # of the size of its letters


def compose_summary_page(
    volume: Volume,
    prediction: Prediction,
    findings: Findings,
    *,
    headers: tuple[Dataset, ...],
    provenance: Provenance,
) -> Result:
    """The page as a Secondary Capture instance."""
    image_numbers = tuple(header.get("InstanceNumber") for header in headers)
    pixels = render(volume, prediction, findings, image_numbers, provenance.patient_and_study)
    return finish(rgb_capture(pixels), Role.SUMMARY_PAGE, provenance)


def render(
    volume: Volume,
    prediction: Prediction,
    findings: Findings,
    image_numbers: tuple[int | None, ...],
    study: Dataset,
) -> Pixels:
    """The page as (row, column, RGB); `image_numbers` are the Instance Numbers of the slices, for the captions."""
    page = Image.new("RGB", (PAGE_SIZE, PAGE_SIZE))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, PAGE_SIZE, BANNER_HEIGHT), fill=AMBER)
    draw.text(
        (PAGE_SIZE / 2, BANNER_HEIGHT / 2),
        RESEARCH_BANNER,
        fill=(0, 0, 0),
        font=ImageFont.load_default(28),
        anchor="mm",
    )
    mask = prediction.hematoma
    largest, below, above = page_slice_indices(mask)
    lower_row = _TOP + _LARGE + _GAP
    for index, left, top, side in (
        (largest, _GAP, _TOP, _LARGE),
        (below, _GAP, lower_row, _SMALL),
        (above, 2 * _GAP + _SMALL, lower_row, _SMALL),
    ):
        page.paste(_panel(volume.hu[index], mask[index], volume.grid, side), (left, top))
        draw.text(
            (left + side - 8, top + side - 6),  # viewers write into the corners of the page
            f"Image {image_numbers[index] or '-'}",
            fill=WHITE,
            font=ImageFont.load_default(16),
            anchor="rd",
        )
    _write(draw, _fitting_lines(findings, study))
    return np.asarray(page)


def _panel(hu: FloatArray, mask: Mask, grid: AcquisitionGrid, side: int) -> Image.Image:
    """One slice in a brain window, at its true proportions in a square of `side` pixels, the mask outlined."""
    height_mm, width_mm = grid.rows * grid.pixel_spacing_mm[0], grid.columns * grid.pixel_spacing_mm[1]
    scale = side / max(height_mm, width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    slice_image = Image.fromarray(apply(hu, BRAIN)).resize(size, Image.Resampling.BILINEAR).convert("RGB")
    outline = _outline(
        np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 0
    )
    slice_image.paste(HEMATOMA_RGB, mask=Image.fromarray(outline.astype(np.uint8) * 255))
    panel = Image.new("RGB", (side, side))
    panel.paste(slice_image, ((side - size[0]) // 2, (side - size[1]) // 2))
    _mark_directions(ImageDraw.Draw(panel), grid, side)
    return panel


def _outline(shown: Mask) -> Mask:
    """A line of two pixels just outside the mask, so that it hides nothing of the hematoma."""
    widened = Image.fromarray(shown.astype(np.uint8)).filter(ImageFilter.MaxFilter(5))
    return (np.asarray(widened) > 0) & ~shown


def _mark_directions(draw: ImageDraw.ImageDraw, grid: AcquisitionGrid, side: int) -> None:
    """The patient directions at the edges; a small panel shows left and right only."""
    font = ImageFont.load_default(24 if side == _LARGE else 18)
    across, down = grid.row_direction_lps, grid.column_direction_lps
    middle = side // 2
    edges = [(-across, (8, middle), "lm"), (across, (side - 8, middle), "rm")]
    if side == _LARGE:
        edges += [(-down, (middle, 8), "mt"), (down, (middle, side - 8), "mb")]
    for direction, place, anchor in edges:
        draw.text(place, direction_letter(direction), fill=AMBER, font=font, anchor=anchor)


def _fitting_lines(findings: Findings, study: Dataset) -> list[Line]:
    """The text column, so that all of it is on the page: smaller where it is long, but not too small for its notes.

    Where they would be, the notes of estimates are left out.
    """
    ways = chain(((True, scale) for scale in (1, 0.95, 0.9, 0.85, 0.8)), ((False, 0.95**n) for n in count()))
    columns = (_scaled(summary_lines(findings, study, notes=notes), scale) for notes, scale in ways)
    return next(lines for lines in columns if sum(map(_height, lines)) <= _TEXT_HEIGHT)


def _scaled(lines: list[Line], scale: float) -> list[Line]:
    return [replace(line, size=line.size * scale, space_above=line.space_above * scale) for line in lines]


def _height(line: Line) -> float:
    return line.space_above + line.size * _LINE_HEIGHT * len(_wrapped(line))


def _write(draw: ImageDraw.ImageDraw, lines: list[Line]) -> None:
    """The text column, each line wrapped to its width and its value right-aligned."""
    top = float(_TOP)
    for line in lines:
        font = ImageFont.load_default(line.size)
        top += line.space_above
        for part in _wrapped(line):
            draw.text((_TEXT_LEFT, top), part, fill=line.colour, font=font)
            top += line.size * _LINE_HEIGHT
        if line.value:
            above = top - line.size * _LINE_HEIGHT
            draw.text((_TEXT_LEFT + _TEXT_WIDTH, above), line.value, fill=line.colour, font=font, anchor="ra")


def _wrapped(line: Line) -> list[str]:
    """Its text in parts that fit the column; the last is empty where the value has no room beside the others."""
    font = ImageFont.load_default(line.size)
    parts = [""]
    for word in line.text.split():
        longer = f"{parts[-1]} {word}".strip()
        if parts[-1] and font.getlength(longer) > _TEXT_WIDTH:
            parts.append(word)
        else:
            parts[-1] = longer
    if line.value and font.getlength(f"{parts[-1]} {line.value}") > _TEXT_WIDTH:
        parts.append("")
    return parts
