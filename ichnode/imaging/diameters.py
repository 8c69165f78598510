"""Diameters of a region on one slice."""

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from ichnode.imaging.volume import Mask


def diameters_mm(region: Mask, pixel_spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Longest diameter of a (row, column) region that is not empty, and its width perpendicular to that, in mm.

    Pixels count with their extent: the points are the middles of their four edges.
    """
    edges = np.array([(-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)])
    points = (np.argwhere(region)[:, None, :] + edges).reshape(-1, 2) * pixel_spacing_mm
    hull = points[ConvexHull(points).vertices]
    distances = squareform(pdist(hull))
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    along = (hull[second] - hull[first]) / distances[first, second]
    across = hull @ np.array([-along[1], along[0]])
    return float(distances[first, second]), float(np.ptp(across))
