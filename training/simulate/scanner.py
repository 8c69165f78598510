"""Scanner: from a patient's finely sliced HU to the planes that a CT of some make, dose and protocol would show.

Slice profile, kernel, beam hardening, streaks, metal, motion, noise, calibration, padding, field of view, head holder
and windowed exports, each drawn wide. It works on evenly spaced planes; a plane averages what its slice covers.
"""

from dataclasses import dataclass
from math import ceil, cos, hypot, pi, sin, sqrt

import torch
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.hu_range import MEDIAN_BRAIN_HU
from training.simulate.anatomy import AIR_HU
from training.simulate.draw import Draw

NOT_BLOOD_HU = 180.0  # white in a subdural window (80, 200): nobody tells it from bone, calcification or a drain


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scanned:
    """What the scanner shows, and what is true of it, on the same planes."""

    hu: Tensor  # (plane, row, column) float32
    labels: Tensor  # (plane, row, column) uint8

    def planes(self, which: slice) -> "Scanned":
        """Some of the planes."""
        return Scanned(hu=self.hu[which], labels=self.labels[which])


def scan(
    hu: Tensor, occupancy_cdhw: Tensor, draw: Draw, *, planes_each: int, pixel_mm: float, archived: bool = False
) -> Scanned:
    """`planes_each` fine planes become one; `occupancy_cdhw` holds the share of each type of hemorrhage.

    `archived`: as a PACS holds it, with slices as thick as they are apart, and never exported through a window.
    """
    profile = [1 / planes_each] * planes_each if archived else _profile(draw, planes_each)
    hu, *shares = (_sliced(x, profile, planes_each) for x in (hu, *occupancy_cdhw))
    hu = _kernel(hu, draw, pixel_mm)
    labels = as_labels(torch.stack(shares), hu)
    hu = hu + _shadows(hu, draw, pixel_mm)
    hu = _moved(hu, draw, pixel_mm)
    hu = hu + _noise(hu, draw, pixel_mm)
    hu = hu * draw.normal("gain", 1, 0.012) + draw.normal("offset", 0, 2.0)
    hu = _padded(_held(hu, draw, pixel_mm), draw)
    if not archived and draw.chance("exported", 0.15):
        hu = _exported(hu, draw)
    return Scanned(hu=hu.clamp(-2048, 3071).round(), labels=labels)


def as_labels(occupancy_cdhw: Tensor, hu: Tensor) -> Tensor:
    """(D, H, W) uint8: the type that fills most of a voxel where hemorrhage fills half and shows as blood; else 0."""
    most, which = occupancy_cdhw.max(0)
    found = (occupancy_cdhw.sum(0) >= 0.5) & (most > 0) & (hu < NOT_BLOOD_HU)
    return torch.where(found, which + 1, 0).to(torch.uint8)


def _profile(draw: Draw, planes_each: int) -> list[float]:
    """Weights of the fine planes around one plane's middle: thin, contiguous or thick slices."""
    kind = draw.choice("slices", ("thin", "contiguous", "thick", "very thick"), (0.2, 0.4, 0.22, 0.18))
    reach = {"thin": 0.5, "contiguous": planes_each / 2, "thick": planes_each * 0.8, "very thick": planes_each * 1.2}[
        kind
    ]
    middle = draw.uniform("slice phase", -0.5, 0.5)
    half = ceil(reach + 0.5)
    edges = [(i - middle) for i in range(-half, half)]
    weights = [max(0.0, min(e + 1, reach) - max(e, -reach)) for e in edges]
    return [w / sum(weights) for w in weights]


def _sliced(x: Tensor, profile: list[float], planes_each: int) -> Tensor:
    """Every `planes_each`-th weighted mean; the ends repeat."""
    half = len(profile) // 2
    first = max(0, half - planes_each // 2)
    padded = functional.pad(x[None, None], (0, 0, 0, 0, first, half), mode="replicate")[0, 0]
    count = x.shape[0] // planes_each
    start = first + planes_each // 2 - half
    out = torch.zeros((count, *x.shape[1:]), device=x.device)
    for offset, weight in enumerate(profile):
        if weight > 0:
            out += weight * padded[start + offset :: planes_each][:count]
    return out


def smooth(x: Tensor, sigma: float) -> Tensor:
    """(D, H, W), Gaussian within each plane, sigma in pixels."""
    if sigma < 0.15:
        return x
    reach = max(1, ceil(2.5 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma) ** 2)
    taps = taps / taps.sum()
    padded = functional.pad(x[:, None], (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, taps[None, None, None, :]), taps[None, None, :, None])[:, 0]


def _kernel(hu: Tensor, draw: Draw, pixel_mm: float) -> Tensor:
    """Reconstruction kernel: soft, or sharp with overshoot at edges."""
    blur_mm = hypot(draw.uniform("blur", 0.25, 1.1), _pixel_blur_mm(pixel_mm))
    soft = smooth(hu.clamp(-1000, 2500), blur_mm / pixel_mm)
    if draw.chance("sharp", 0.25):
        soft = soft + draw.uniform("overshoot", 0.2, 0.8) * (soft - smooth(soft, 1.0 / pixel_mm))
    return soft


def _pixel_blur_mm(pixel_mm: float) -> float:
    """Deviation that the mean over a wide pixel adds to one of 1 mm; the simulated HU are of points."""
    return sqrt(max(0.0, pixel_mm**2 - 1) / 12)


def _shadows(hu: Tensor, draw: Draw, pixel_mm: float) -> Tensor:
    """Beam hardening near bone, dark and bright bands between bones, streaks from metal."""
    bone, brain = _bone(hu), _brain(hu)
    wide_hu, narrow_hu = draw.uniform("beam hardening", -6, 40), draw.uniform("glare", 0, 30)
    added = beside_bone(hu, pixel_mm, wide_hu=wide_hu, narrow_hu=narrow_hu)
    rows = bone.mean(2, keepdim=True)
    bands = functional.interpolate(draw.normals("bands", hu.shape[0], 1, 40), hu.shape[1], mode="linear").movedim(1, 2)
    added = added + brain * bands * (rows / 0.15).clamp_max(2.5) * draw.uniform("band strength", 0, 5)
    if draw.chance("metal", 0.04):
        added = added + _star(hu, draw, pixel_mm)
    return added


def beside_bone(hu: Tensor, pixel_mm: float, *, wide_hu: float, narrow_hu: float) -> Tensor:
    """(D, H, W): what brain is brighter by, the more bone lies within about 20 mm and within about 8 mm of it."""
    bone = _bone(hu)
    return _brain(hu) * (_nearby(bone, 20 / pixel_mm) * wide_hu + _nearby(bone, 8 / pixel_mm) * narrow_hu)


def _bone(hu: Tensor) -> Tensor:
    return (hu > 400).float()


def _brain(hu: Tensor) -> Tensor:
    return ((hu > -50) & (hu < 150)).float()


def _nearby(x: Tensor, pixels: float) -> Tensor:
    """A mean over about so many pixels of each plane."""
    coarse = functional.interpolate(x[:, None], [max(2, round(n / pixels)) for n in x.shape[1:]], mode="area")
    return functional.interpolate(coarse, x.shape[1:], mode="bilinear", align_corners=False)[:, 0]


def _star(hu: Tensor, draw: Draw, pixel_mm: float) -> Tensor:
    """Streaks around a metal object, on some planes."""
    d, h, w = hu.shape
    y = torch.arange(h, device=hu.device)[:, None] - draw.uniform("metal row", 0.3, 0.7) * h
    x = torch.arange(w, device=hu.device)[None, :] - draw.uniform("metal column", 0.3, 0.7) * w
    radius, angle = torch.sqrt(x**2 + y**2) * pixel_mm + 2, torch.atan2(y, x)
    rays = sum(
        torch.cos(draw.choice(f"rays {i}", (2, 3, 4, 5, 7, 9, 12)) * angle + draw.uniform(f"ray {i}", 0, 2 * pi))
        for i in range(3)
    )
    streaks = rays * draw.uniform("metal strength", 100, 900) / radius + 2500 * (
        radius < draw.uniform("metal size", 3, 6)
    )
    middle, spread = draw.uniform("metal plane") * d, draw.uniform("metal planes", 0.4, 1.5)
    return streaks * torch.exp(-(((torch.arange(d, device=hu.device) - middle) / spread) ** 2))[:, None, None]


def _moved(hu: Tensor, draw: Draw, pixel_mm: float) -> Tensor:
    """Planes in which the patient moved: a ghost shifted within the plane."""
    if not draw.chance("motion", 0.08):
        return hu
    d = hu.shape[0]
    shift = tuple(round(draw.normal(f"motion {way}", 0, 4) / pixel_mm) for way in ("rows", "columns"))
    ghost = torch.roll(hu, shift, (1, 2))
    middle, spread = draw.uniform("motion plane") * d, draw.uniform("motion planes", 1, 6)
    share = 0.45 * torch.exp(-(((torch.arange(d, device=hu.device) - middle) / spread) ** 2))
    return torch.lerp(hu, ghost, share[:, None, None])


def _noise(hu: Tensor, draw: Draw, pixel_mm: float) -> Tensor:
    """Quantum noise, correlated as the kernel leaves it, stronger where the beam crosses more bone."""
    grain = smooth(draw.normals("noise", *hu.shape), draw.uniform("grain", 0.3, 1.1) / pixel_mm)
    if draw.chance("sharp noise", 0.3):
        grain = grain - smooth(grain, 1.6 / pixel_mm)
    grain = grain / grain[:: max(1, hu.shape[0] // 4)].std().clamp_min(1e-3)
    bone = _bone(hu).mean((1, 2), keepdim=True)
    sigma = draw.log_uniform("noise level", 0.8, 7.0) * (1 + draw.uniform("bone noise", 0, 3) * bone)
    sigma = sigma / sqrt(max(1.0, pixel_mm))  # grain is partly averaged in wide pixels
    return grain * sigma * (hu > -700).float().clamp_min(0.5)


def _held(hu: Tensor, draw: Draw, pixel_mm: float) -> Tensor:
    """With a head holder or table under the head, and sometimes a tube or a sheet."""
    if draw.chance("nothing under the head", 0.35):
        return hu
    _, h, w = hu.shape
    y = (torch.arange(h, device=hu.device)[:, None] - h / 2) * pixel_mm
    x = (torch.arange(w, device=hu.device)[None, :] - w / 2 + draw.normal("holder x", 0, 5)) * pixel_mm
    radius, depth = draw.uniform("holder radius", 80, 180), draw.uniform("holder below", 86, 108)
    distance = (torch.sqrt(x**2 + (y - depth + radius) ** 2) - radius).abs()
    thickness = draw.uniform("holder thickness", 0.8, 3.0)
    shell = (distance < thickness) & (y > draw.uniform("holder from", -20, 60))
    plastic = draw.uniform("holder hu", -300, 250)
    return torch.where(shell[None] & (hu < -600), plastic, hu)


def _padded(hu: Tensor, draw: Draw) -> Tensor:
    """Outside the round field of view lies padding, which makers number differently."""
    _, h, w = hu.shape
    if draw.chance("no padding", 0.5):
        return hu
    y = torch.arange(h, device=hu.device)[:, None] - h / 2 + draw.normal("field row", 0, 3)
    x = torch.arange(w, device=hu.device)[None, :] - w / 2 + draw.normal("field column", 0, 3)
    radius = draw.uniform("field radius", 0.5, 0.75) * max(h, w)
    padding = draw.choice("padding", (-1024.0, -1500.0, -2000.0, -3024.0, AIR_HU, 0.0), (4, 2, 2, 1, 2, 0.3))
    return torch.where((x**2 + y**2 > radius**2)[None], padding, hu)


def _exported(hu: Tensor, draw: Draw) -> Tensor:
    """Through a display window and back: what lies outside is clipped, the rest has few grey levels.

    Often with fewer pixels, and with burned-in marks near the edges.
    """
    low, width = draw.uniform("window low", -40, 12), draw.log_uniform("window width", 60, 220)
    grey = ((hu - low) / width).clamp(0, 1)
    if draw.chance("fewer pixels", 0.5):
        size = [round(n * draw.uniform("pixels left", 0.5, 1.0)) for n in hu.shape[1:]]
        grey = functional.interpolate(functional.interpolate(grey[None], size, mode="area"), hu.shape[1:])[0]
    if draw.chance("marked", 0.4):
        grey = torch.maximum(grey, _marks(hu, draw))
    grey = (grey * 255).round() / 255
    guessed = draw.choice("window guessed", ((low, width), (0.0, 255.0), (0.0, 80.0), (-10.0, 100.0)), (3, 1, 1, 1))
    tissue = grey[(grey > 0) & (grey < 1)]
    median_hu = guessed[0] + guessed[1] * float(tissue.median()) if len(tissue) else 0.0
    if not MEDIAN_BRAIN_HU[0] <= median_hu <= MEDIAN_BRAIN_HU[1]:
        guessed = (low, width)  # ichnode reads no others
    return guessed[0] + guessed[1] * grey


def _marks(hu: Tensor, draw: Draw) -> Tensor:
    """Speckled bright bars near the edges of every plane, where programs write."""
    _, h, w = hu.shape
    marks = torch.zeros(h, w, device=hu.device)
    speckle = (draw.normals("speckle", h, w) > 0).float()
    for bar in range(draw.choice("bars", (1, 2, 4, 6))):
        top, left = (draw.uniform(f"bar {bar} {side}") for side in ("top", "left"))
        rows, columns = round(draw.uniform(f"bar {bar} rows", 2, 16)), round(draw.uniform(f"bar {bar} columns", 2, 50))
        row, column = round((top > 0.5) * (h - rows)), round(left * (w - columns))
        marks[row : row + rows, column : column + columns] = draw.uniform(f"bar {bar} ink", 0.5, 1.0)
    return marks * speckle


def turned(scanned: Scanned, draw: Draw) -> Scanned:
    """Mirrored, a little turned or of the wrong size, as heads lie and as odd headers leave them."""
    axes = [axis for axis, p in ((2, 0.5), (1, 0.03), (0, 0.03)) if draw.chance(f"flip {axis}", p)]
    hu, labels = scanned.hu, scanned.labels
    if draw.chance("turn", 0.3):
        angle, size = draw.normal("turn angle", 0, 0.15), draw.log_uniform("turn size", 0.85, 1.15)
        along, across = cos(angle) / size, sin(angle) / size
        rows, columns = hu.shape[1:]
        theta = torch.tensor([[along, -across * rows / columns, 0], [across * columns / rows, along, 0]])
        place = functional.affine_grid(theta[None].to(hu.device), [1, 1, *hu.shape[1:]], align_corners=False)
        hu = functional.grid_sample(hu[None], place, padding_mode="border", align_corners=False)[0]
        labels = functional.grid_sample(labels[None].float(), place, mode="nearest", align_corners=False)[0].to(
            torch.uint8
        )
    return Scanned(hu=hu.flip(axes), labels=labels.flip(axes))
