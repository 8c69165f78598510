"""Atlas: a head in ICBM152 space, 1 mm, from which patients are deformed.

Brain: the grey and white matter maps of ICBM152 2009a nonlinear symmetric (Fonov et al., NeuroImage 2011), as shipped
inside nilearn. Everything else (cavity, skull base, petrous bone, sinuses, orbits, neck) is drawn by hand in the same
millimetres: a plausible head, not a measured one.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel
import nilearn.datasets
import numpy as np
import SimpleITK
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from training.simulate.styles import Style

Array = NDArray[np.float32]

LOW, HIGH = (-104, -144, -134), (105, 120, 116)  # corners of the atlas, x right, y anterior, z superior, mm
_ICBM_LOW = (-98, -134, -72)
BRAIN = ("grey", "white", "ventricle")
SHELL = ("depth", "skin", "bone", "air", "fat", "muscle")
_FILES = Path(nilearn.datasets.__file__).parent / "data"

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maps:
    """Some maps on one box, (channel, z, y, x), all axes ascending in ICBM152 mm."""

    names: tuple[str, ...]
    values: Tensor
    low_mm: Vector  # ICBM152 coordinates of the first voxel
    spacing_mm: float

    def at(self, mni_mm: Tensor) -> dict[str, Tensor]:
        """Each map at (3, D, H, W) ICBM152 places, linear; the border repeats."""
        size = torch.tensor(self.values.shape[:0:-1], device=mni_mm.device, dtype=torch.float32)
        low = torch.tensor(self.low_mm, device=mni_mm.device)
        place = (mni_mm.movedim(0, -1) - low) * (2 / (self.spacing_mm * (size - 1))) - 1
        sampled = functional.grid_sample(self.values[None], place[None], padding_mode="border", align_corners=True)[0]
        return dict(zip(self.names, sampled, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Atlas:
    """One anatomy source.

    brain: shares of grey and white matter and ventricle. shell: depth, mm from the inner table, positive inside the
    cavity; skin, mm below the skin, positive inside the head; shares of what lies outside the cavity and its vault.
    """

    brain: Maps
    shell: Maps


def atlas_of(style: Style, device: str = "cpu") -> Atlas:
    """The atlas of a style's anatomy. Takes some seconds once."""
    from training.simulate.template import template_atlas  # it is built of what is below

    return template_atlas(device) if style.anatomy == "template" else icbm_atlas(device)


@lru_cache(maxsize=2)
def icbm_atlas(device: str = "cpu") -> Atlas:
    """The atlas of training."""
    return build_atlas(_icbm("gm"), _icbm("wm"), device)


def _icbm(tissue: str) -> Array:
    """One tissue map, (z, y, x) on the atlas box, 0-1."""
    image: Any = nibabel.load(_FILES / f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz")
    values = np.asarray(image.dataobj, np.float32).transpose(2, 1, 0) / 255
    out = np.zeros(tuple(high - low + 1 for low, high in zip(LOW[::-1], HIGH[::-1], strict=True)), np.float32)
    first = [inner - outer for inner, outer in zip(_ICBM_LOW[::-1], LOW[::-1], strict=True)]
    out[tuple(slice(start, start + n) for start, n in zip(first, values.shape, strict=True))] = values
    return out


def build_atlas(grey: Array, white: Array, device: str) -> Atlas:
    """The atlas around two tissue maps on the atlas box."""
    x, y, z = places()
    brain = ndimage.binary_closing(grey + white > 0.35, iterations=7) & (z > -74)
    cavity = ndimage.gaussian_filter(_grown(brain, 3.0).astype(np.float32), 2.5) > 0.5
    depth = distance(cavity)
    ventricle = ventricles(np.clip(1 - grey - white, 0, 1) * (depth > 12), x, y, z)
    skin = _skin(depth, x, y, z)
    shell = (depth, skin, *_base_and_face(depth, skin, x, y, z))
    return Atlas(
        brain=maps_of(BRAIN, (grey, white, ventricle), LOW, 1.0, device), shell=maps_of(SHELL, shell, LOW, 1.0, device)
    )


def maps_of(names: tuple[str, ...], values: tuple[Array, ...], low_mm: Vector, spacing_mm: float, device: str) -> Maps:
    """Maps of arrays (z, y, x)."""
    stacked = torch.from_numpy(np.stack(values).astype(np.float32)).to(device)
    return Maps(names=names, values=stacked, low_mm=low_mm, spacing_mm=spacing_mm)


def places() -> tuple[Array, Array, Array]:
    """Open x, y and z coordinates of the atlas box, each to be broadcast over (z, y, x)."""
    x, y, z = (np.arange(low, high + 1, dtype=np.float32) for low, high in zip(LOW, HIGH, strict=True))
    return x[None, None, :], y[None, :, None], z[:, None, None]


def _grown(mask: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    return np.asarray(_steps(mask) >= -reach)


def distance(mask: NDArray[np.bool_]) -> Array:
    """(D, H, W): signed voxels from the border, positive inside, rounded off a little."""
    return np.asarray(ndimage.gaussian_filter(_steps(mask), 1.0))


def _steps(mask: NDArray[np.bool_]) -> Array:
    """Voxels to the other side of the border, negative outside."""
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    inside = SimpleITK.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False)
    return np.asarray(SimpleITK.GetArrayViewFromImage(inside) + mask, np.float32)


def _ellipsoid(x: Array, y: Array, z: Array, centre: Vector, radii: Vector) -> Array:
    """Roughly mm below the surface of an ellipsoid, positive inside."""
    r = np.sqrt(sum(((c - m) / a) ** 2 for c, m, a in zip((x, y, z), centre, radii, strict=True)))
    return np.asarray((1 - r) * min(radii), np.float32)


def _paired(x: Array, y: Array, z: Array, centre: Vector, radii: Vector) -> Array:
    """The same on both sides."""
    return _ellipsoid(np.abs(x), y, z, centre, radii)


def ventricles(csf: Array, x: Array, y: Array, z: Array) -> Array:
    """(D, H, W): deep CSF of the lateral, third and fourth ventricles, by where they lie in ICBM152 mm."""
    side = np.abs(x)
    body = (z > 2) & (z < 32) & (y > -46) & (y < 36) & (side < 16 + 0.55 * np.maximum(0, -y))
    frontal = (z > -8) & (z <= 6) & (y > 8) & (y < 36) & (side < 20)
    atrium = (z > -8) & (z < 24) & (y > -62) & (y <= -34) & (side > 10) & (side < 38)
    temporal = (z > -26) & (z <= 2) & (y > -48) & (y < 2) & (side > 24) & (side < 42)
    third = (side < 6) & (y > -26) & (y < 10) & (z > -14) & (z < 10)
    fourth = (side < 14) & (y > -58) & (y < -34) & (z > -46) & (z < -22)
    where = body | frontal | atrium | temporal | third | fourth
    whole = ndimage.gaussian_filter(csf * where, 0.7) > 0.3
    return np.asarray(csf * ndimage.gaussian_filter(whole.astype(np.float32), 0.7))


def _skin(depth: Array, x: Array, y: Array, z: Array) -> Array:
    """mm below the skin: the vault with its scalp, the face and the neck."""
    vault = depth + 14 + 0 * z
    face = _ellipsoid(x, y, z, (0, 34, -62), (66, 60, 74))
    nose = _ellipsoid(x, y, z, (0, 92, -56), (13, 20, 24))
    neck = _ellipsoid(x, y, z, (0, -38, -120), (64, 70, 90))
    jaw = _ellipsoid(x, y, z, (0, 5, -90), (66, 66, 60))
    whole = np.maximum.reduce([vault, face, nose, neck, jaw]) > 0
    smooth = ndimage.gaussian_filter(whole.astype(np.float32), 4.0) > 0.5
    return distance(smooth)


def _base_and_face(depth: Array, skin: Array, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array, Array]:
    """Bone, air, fat and muscle outside the cavity, as soft shares."""
    rng = np.random.default_rng(0)
    coarse, fine = _texture(rng, 7.0), _texture(rng, 2.2)
    out = -depth  # mm outside the cavity
    below = 1 / (1 + np.exp(np.clip((z + 12 + 0.25 * (y - 20)) / 6, -30, 30)))  # 1 under the vault
    under = (below > 0.5) & (np.abs(x) < 66) & (y > -75)
    base = np.where(under, np.minimum(out + 1, 9 + 4 * coarse - out) + 1.2 * fine, -9)
    petrous = np.maximum(_paired(x, y, z, (34, -22, -36), (30, 12, 11)), _paired(x, y, z, (56, -36, -42), (16, 22, 24)))
    maxilla = _paired(x, y, z, (26, 50, -66), (20, 22, 24))
    orbit = _paired(x, y, z, (31, 52, -37), (18, 28, 18))
    zygoma = np.minimum(_paired(x, y, z, (48, 40, -56), (22, 38, 10)), 5 - np.abs(np.abs(x) - 58) * 0.8)
    jaw = _paired(x, y, z, (48, 6, -88), (6, 18, 34))
    atlas_ring = np.minimum(
        _ellipsoid(x, y, z, (0, -34, -96), (42, 26, 30)), -_ellipsoid(x, y, z, (0, -42, -96), (15, 17, 60))
    )
    middle = _ellipsoid(x, y, z, (0, 34, -54), (22, 46, 27))
    face = np.maximum.reduce([petrous, maxilla + 2, orbit + 2.5, zygoma, jaw, atlas_ring, middle])
    bony = np.maximum(base, np.where(face > -4, face + 1.2 * fine, -9))
    frontal_sinus = _paired(x, y, z, (11, 74, -8), (13, 7, 15))
    holes = np.maximum.reduce(
        [
            _paired(x, y, z, (25, 50, -66), (14, 16, 18)),
            np.minimum(_ellipsoid(x, y, z, (0, 44, -40), (13, 24, 15)), 3.5 - 5 * np.abs(fine)),
            _paired(x, y, z, (8, 14, -41), (9, 13, 10)),
            np.minimum(_ellipsoid(x, y, z, (0, 56, -68), (14, 30, 20)), 3 - 4 * np.abs(coarse)),
            np.minimum(frontal_sinus, 4 + coarse),
            np.minimum(_paired(x, y, z, (56, -38, -44), (13, 18, 20)), 2.2 * (fine + 0.15)),
            np.minimum(_paired(x, y, z, (44, -22, -36), (14, 5, 6)), 2 * fine + 1),
            np.minimum(_paired(x, y, z, (72, -22, -40), (22, 4, 4)), skin + 30),
            _ellipsoid(x, y, z, (0, 16, -92), (15, 14, 40)),
        ]
    )
    globe = _paired(x, y, z, (32, 62, -38), (12.5, 12.5, 12.5))
    fatty = np.maximum(np.minimum(orbit, -globe - 0.5), 2.2 * coarse - 0.6 + 0.5 * fine)
    bone = soft(np.minimum(bony, np.minimum(out + 1, skin - 4))) * (1 - soft(orbit))
    air = soft(np.minimum(holes, out - 2.5))
    fat = soft(fatty, 0.4) * below
    muscle = soft(np.maximum(-fatty, globe), 0.4) * below
    return bone, air, fat.astype(np.float32), muscle.astype(np.float32)


def _texture(rng: np.random.Generator, scale_mm: float) -> Array:
    """Smooth noise of unit deviation on the atlas box."""
    shape = tuple(high - low + 1 for low, high in zip(LOW[::-1], HIGH[::-1], strict=True))
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), scale_mm / 2)
    return np.asarray(noise / noise.std())


def soft(inside_mm: Array, width: float = 0.7) -> Array:
    """Share of a voxel inside a surface, from mm below it."""
    return np.asarray(1 / (1 + np.exp(-np.clip(inside_mm / width, -30, 30))), np.float32)
