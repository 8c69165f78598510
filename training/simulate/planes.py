"""Planes: from the fine planes of a simulated head to those that a scanner of a style shows: all, a slab or a few.

Not every series reaches from skull base to vertex.
"""

from torch import Tensor

from ichnode.imaging.resample import CanonicalGrid
from training.simulate import picture, scanner
from training.simulate.draw import Draw
from training.simulate.scanner import Scanned
from training.simulate.styles import Style

PLANES_EACH = 2  # fine planes in each plane that is shown


def around_origin(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> CanonicalGrid:
    """A grid, (z, y, x), whose middle is the origin, as that of simulated heads is."""
    z, y, x = (-(count - 1) * step / 2 for count, step in zip(shape, spacing_mm, strict=True))
    return CanonicalGrid(shape=shape, spacing_mm=spacing_mm, origin_lps=(x, y, z))


def fine(grid: CanonicalGrid) -> CanonicalGrid:
    """The same box in thinner planes."""
    dz = grid.spacing_mm[0] / PLANES_EACH
    x, y, z = grid.origin_lps
    return CanonicalGrid(
        shape=(grid.shape[0] * PLANES_EACH, *grid.shape[1:]),
        spacing_mm=(dz, *grid.spacing_mm[1:]),
        origin_lps=(x, y, z - dz * (PLANES_EACH - 1) / 2),
    )


def seen_by(style: Style, hu: Tensor, occupancy_cdhw: Tensor, draw: Draw, pixel_mm: float) -> Scanned:
    """A head through a scanner of the style, in planes of `PLANES_EACH` fine ones."""
    scan, turned = (picture.scan, picture.turned) if style.scanner == "picture" else (scanner.scan, scanner.turned)
    return turned(scan(hu, occupancy_cdhw, draw, planes_each=PLANES_EACH, pixel_mm=pixel_mm), draw)


def few(seen: Scanned, draw: Draw) -> Scanned:
    """One to twelve neighbouring planes with much head, more often with blood than without."""
    count = min(round(draw.log_uniform("slices shown", 0.6, 12)) or 1, seen.hu.shape[0])
    wanted = (seen.labels > 0).flatten(1).any(1)
    if not bool(wanted.any()) or draw.chance("anywhere", 0.2):
        tissue = (seen.hu > -100).flatten(1).float().mean(1)
        wanted = tissue >= 0.5 * tissue.max()
    planes = wanted.nonzero()
    middle = int(planes[int(draw.uniform("plane") * len(planes))])
    first = min(max(0, middle - count // 2), seen.hu.shape[0] - count)
    return seen.planes(slice(first, first + count))


def slab(seen: Scanned, planes: int, draw: Draw) -> Scanned:
    """At most so many planes, from anywhere."""
    first = int(draw.uniform("first of slab", 0, max(0, len(seen.hu) - planes) + 1))
    return seen.planes(slice(first, first + planes))
