"""Picture: what is left of a CT once it was a picture: windowed to 8 bits, resized, compressed, written over.

Teaching files, slides and screenshots look like this, and some archives hold nothing else. The model shares nothing
with `scanner` but its types, so that it can stand for scanners and exports that no training run has seen.
"""

from math import cos, pi, sqrt

import torch
from torch import Tensor
from torch.nn import functional

from training.simulate.draw import Draw
from training.simulate.scanner import Scanned, as_labels

WINDOWS = {(40.0, 80.0): 5.0, (35.0, 100.0): 3.0, (30.0, 150.0): 2.0}  # centre and width, HU, and how often (assumed)
NOMINAL = (0.0, 80.0)  # low end and width: what `ichnode.imaging.hu_range` takes grays for where no window is given
_JPEG_STEPS = ((16, 11, 10, 16, 24, 40, 51, 61), (72, 92, 95, 98, 112, 100, 103, 99))  # first and last row, Annex K.1


def scan(hu: Tensor, occupancy_cdhw: Tensor, draw: Draw, *, planes_each: int, pixel_mm: float) -> Scanned:
    """`planes_each` fine planes become one picture; its grey levels come back as HU by some window."""
    hu, *shares = (_averaged(x, planes_each) for x in (hu, *occupancy_cdhw))
    labels = as_labels(torch.stack(shares), hu)
    hu = _grainy(hu, draw)
    centre, width = draw.choice("window", list(WINDOWS), list(WINDOWS.values()))
    low = centre - width / 2
    grey = ((hu - low) / width).clamp(0, 1) ** draw.log_uniform("gamma", 0.8, 1.25)
    grey = _compressed(_resized(grey, draw, pixel_mm), draw)
    grey = _written_over(grey, draw)
    meant = draw.choice("read as", ((low, width), NOMINAL))
    levels = (grey.clamp(0, 1) * 255).round() / 255
    return Scanned(hu=(meant[0] + meant[1] * levels).round(), labels=labels)


def turned(scanned: Scanned, draw: Draw) -> Scanned:
    """Mirrored, or upside down, as pictures are."""
    axes = [axis for axis, share in ((2, 0.5), (1, 0.1)) if draw.chance(f"mirror {axis}", share)]
    return Scanned(hu=scanned.hu.flip(axes), labels=scanned.labels.flip(axes))


def _averaged(x: Tensor, planes_each: int) -> Tensor:
    count = x.shape[0] // planes_each
    return x[: count * planes_each].reshape(count, planes_each, *x.shape[1:]).mean(1)


def _grainy(hu: Tensor, draw: Draw) -> Tensor:
    """With noise as coarse as the matrix that it was reconstructed on, alike in bone and brain."""
    matrix = [round(n * draw.uniform("matrix", 0.55, 1.0)) for n in hu.shape[1:]]
    noise = functional.interpolate(draw.normals("grain", 1, hu.shape[0], *matrix), hu.shape[1:], mode="bicubic")[0]
    return hu + noise * draw.uniform("graininess", 1.0, 6.0) * (hu > -800)


def _resized(grey: Tensor, draw: Draw, pixel_mm: float) -> Tensor:
    """Through a matrix of 256 to 400 pixels over the field of view and back, by whatever the program did."""
    pixels = draw.uniform("pixels", 256, 400)
    size = [max(16, round(n * pixel_mm * pixels / draw.uniform("field of view mm", 210, 300))) for n in grey.shape[1:]]
    there, back = (draw.choice(f"resized {way}", ("bilinear", "bicubic", "nearest")) for way in ("there", "back"))
    return _to_size(_to_size(grey, size, there), list(grey.shape[1:]), back)


def _to_size(grey: Tensor, size: list[int], mode: str) -> Tensor:
    corners = None if mode == "nearest" else False
    return functional.interpolate(grey[None], size, mode=mode, align_corners=corners)[0]


def _compressed(grey: Tensor, draw: Draw) -> Tensor:
    """Quantised in blocks of 8 x 8 as JPEG does, with steps about those of its luminance table."""
    if draw.chance("lossless", 0.3):
        return grey
    d, h, w = grey.shape
    padded = functional.pad(grey[None], (0, -w % 8, 0, -h % 8), mode="replicate")[0] * 255 - 128
    blocks = padded.unfold(1, 8, 8).unfold(2, 8, 8)
    cosines = _cosines().to(grey.device)
    steps = _steps(draw.log_uniform("quality", 0.15, 1.2)).to(grey.device)
    kept = ((cosines @ blocks @ cosines.T) / steps).round() * steps
    plain = (cosines.T @ kept @ cosines).movedim(3, 2).reshape(d, padded.shape[1], padded.shape[2])
    return ((plain[:, :h, :w] + 128) / 255).clamp(0, 1)


def _cosines() -> Tensor:
    """The orthonormal 8-point cosine transform, (frequency, place)."""
    rows = [[cos(pi * (2 * n + 1) * k / 16) * (sqrt(1 / 8) if k == 0 else 0.5) for n in range(8)] for k in range(8)]
    return torch.tensor(rows)


def _steps(scale: float) -> Tensor:
    """Quantiser steps, evenly between the table's first and last row (ITU-T T.81, table K.1)."""
    first, last = (torch.tensor(row, dtype=torch.float32) for row in _JPEG_STEPS)
    return (torch.lerp(first, last, torch.linspace(0, 1, 8)[:, None]) * scale).clamp_min(1)


def _written_over(grey: Tensor, draw: Draw) -> Tensor:
    """White letters in the corners and a scale bar beside the head, on every plane."""
    _, h, w = grey.shape
    ink = torch.zeros(h, w, device=grey.device)
    for corner in range(4):
        if draw.chance(f"text {corner}", 0.5):
            _write(ink, draw, corner)
    if draw.chance("scale bar", 0.4):
        column, step = w - 4, max(3, h // 20)
        ink[h // 4 : 3 * h // 4, column] = 1
        ink[h // 4 : 3 * h // 4 : step, column - 3 : column] = 1
    return torch.maximum(grey, ink * draw.uniform("ink", 0.75, 1.0))


def _write(ink: Tensor, draw: Draw, corner: int) -> None:
    """Lines of letter-like marks, 5 x 3 pixels each."""
    h, w = ink.shape
    lines, letters = draw.choice(f"lines {corner}", (1, 2, 3, 4)), draw.choice(f"letters {corner}", (4, 7, 10))
    marks = (draw.normals(f"marks {corner}", lines, letters, 5, 3) > -0.2).float()
    text = functional.pad(marks, (0, 1, 0, 2)).movedim(2, 1).reshape(lines * 7, letters * 4)
    rows, columns = min(text.shape[0], h // 4), min(text.shape[1], w // 3)
    row, column = (h - rows - 2 if corner // 2 else 2), (w - columns - 2 if corner % 2 else 2)
    ink[row : row + rows, column : column + columns] = text[:rows, :columns]
