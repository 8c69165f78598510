"""Template atlas: the head of an averaged CT of older adults, with its own skull, skull base, sinuses and scalp.

Rorden et al., NeuroImage 2012: 2 mm, in MNI space, with grey, white and CSF maps. It is test data (`ct_template` below
ICHNODE_TEST_DATA) and the anatomy of a held-out style, so no training run reads it.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.simulate.atlas import BRAIN, SHELL, Array, Atlas, Maps, distance, maps_of, soft, ventricles
from training.simulate.styles import Style

Mask = NDArray[np.bool_]

TEST_DATA = Path(os.environ.get("ICHNODE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
_MM = 2.0
_LOW = (-90.0, -126.0, -72.0)  # ICBM152 mm of the first voxel once x ascends
_MARGIN = 10  # voxels of air around the sides, the front and the top, and of neck below


def is_here() -> bool:
    """Whether there is test data to build it from."""
    return (TEST_DATA / "ct_template").is_dir()


def has_anatomy_of(style: Style) -> bool:
    """Whether heads of a style can be made here."""
    return style.anatomy != "template" or is_here()


@lru_cache(maxsize=2)
def template_atlas(device: str = "cpu") -> Atlas:
    """The atlas of the averaged CT. Raises FileNotFoundError where the test data are absent."""
    hu = _hu(_map("scct"))
    grey, white, csf = (_map(name) for name in ("scgrey", "scwhite", "sccsf"))
    x, y, z = _places(hu.shape)
    depth = distance(_cavity(grey + white + csf)) * _MM
    skin = distance(_filled(hu > -500)) * _MM
    ventricle = ventricles(csf * (depth > 12), x, y, z)
    shell = (depth, skin, *_outside(hu, skin))
    return Atlas(brain=_maps(BRAIN, (grey, white, ventricle), device), shell=_maps(SHELL, shell, device))


def _maps(names: tuple[str, ...], values: tuple[Array, ...], device: str) -> Maps:
    low = (_LOW[0] - _MARGIN * _MM, _LOW[1] - _MARGIN * _MM, _LOW[2] - _MARGIN * _MM)
    return maps_of(names, values, low, _MM, device)


def _map(name: str) -> Array:
    """(z, y, x), all ascending, with the margin: the lowest plane goes on below, the other faces end in 0."""
    image: Any = nibabel.load(TEST_DATA / "ct_template" / f"{name}.nii")
    values = np.asarray(image.dataobj, np.float32).transpose(2, 1, 0)[:, :, ::-1]
    below = np.pad(values, ((_MARGIN, 0), (0, 0), (0, 0)), mode="edge")
    return np.pad(below, ((0, _MARGIN), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))


def _hu(cormack: Array) -> Array:
    """HU of Cormack units, which spread soft tissue elevenfold."""
    return np.interp(cormack, (0, 900, 3100, 5000), (-1000, -100, 100, 2000)).astype(np.float32)


def _places(shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Open x, y and z coordinates, each to be broadcast over (z, y, x)."""
    x, y, z = (
        low + _MM * (np.arange(size, dtype=np.float32) - _MARGIN) for low, size in zip(_LOW, shape[::-1], strict=True)
    )
    return x[None, None, :], y[None, :, None], z[:, None, None]


def _cavity(inside: Array) -> Mask:
    """Where brain and CSF are: without the globes, which the CSF map takes for CSF."""
    core, count = ndimage.label(ndimage.binary_opening(inside > 0.5, iterations=2))
    largest = core == 1 + np.argmax(np.bincount(core.ravel())[1 : count + 1])
    grown = ndimage.binary_dilation(largest, iterations=3, mask=inside > 0.5)
    return np.asarray(ndimage.binary_closing(grown, iterations=2))


def _filled(mask: Mask) -> Mask:
    """Each plane without holes: sinuses and airways belong to the head."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


def _outside(hu: Array, skin: Array) -> tuple[Array, Array, Array, Array]:
    """Bone, air, fat and muscle; averaging blurred them, so each is cut where it is about half there."""
    deep = skin > 4
    bone = soft(hu - 190, 35.0)
    air = soft(-260 - hu, 40.0) * deep
    fat, muscle = soft(-5 - hu, 10.0), soft(hu - 20, 10.0)
    return bone, air, fat, muscle
