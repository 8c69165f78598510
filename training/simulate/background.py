"""Background: hematomas of known truth in a real head CT, whose own tissue gives way and whose own noise stays."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.cavity import cavity_of
from ichnode.imaging.resample import CanonicalGrid, canonical_grid_for, to_acquisition, to_canonical
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Volume
from training.data.dicom import series_in
from training.data.manifest import DataError
from training.data.nifti import nifti_volume
from training.simulate.anatomy import lps_mm
from training.simulate.atlas import Atlas, Maps
from training.simulate.draw import Draw
from training.simulate.patient import SimulatedHead, bled
from training.simulate.real_space import depth_of, space_of
from training.simulate.scanner import as_labels
from training.simulate.space import Space
from training.simulate.spec import PatientSpec

_GRID = CanonicalGrid(shape=(64, 192, 160), spacing_mm=(2.5, 1.0, 1.0), origin_lps=(-79.5, -95.5, -78.75))  # centred
_SURVEY_MM = 2.0
_SKULL_MM = 3.5  # so near to the inner table voxels are partly bone
_HARD_HU = 200.0  # calcification shows through blood
_UNSEEN_HU = 0.3
_ACROSS = tuple((each - 3) / 7 for each in range(7))  # of a slice's thickness: where a change is sampled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Background:
    """A real head without hemorrhage on a canonical grid around its cavity, whose middle is the origin: patients are
    drawn around it.
    """

    middle_lps: NDArray[np.float64]  # of the cavity, where it was scanned
    hu: Tensor  # (D, H, W)
    brain_hu: Tensor  # the same, but outside the cavity the HU of the nearest brain: what may be pushed about
    space: Space


def read_background(path: Path) -> Volume:
    """A head CT: a folder of DICOM files, or NIfTI. Raises DataError, RefusedSeries and OSError."""
    return read_volume(series_in(path)) if path.is_dir() else nifti_volume(path)


def background_of(volume: Volume, atlas: Atlas) -> Background:
    """The head and where everything lies in it. Raises DataError where no head is found."""
    survey = canonical_grid_for(volume.grid, (_SURVEY_MM,) * 3)
    cavity = cavity_of(to_canonical(volume, survey), survey.spacing_mm)
    if not cavity.any():
        raise DataError("no head: a skull with brain inside was not found")
    middle = _middle(cavity, survey)
    volume = replace(volume, grid=_moved_by(volume.grid, -middle))
    x, y, z = np.array(survey.origin_lps) - middle
    survey = replace(survey, origin_lps=(float(x), float(y), float(z)))
    surveyed = torch.from_numpy(depth_of(cavity, survey.spacing_mm))[None]
    maps = Maps(names=("depth",), values=surveyed, low_mm=survey.origin_lps, spacing_mm=_SURVEY_MM)
    depth = maps.at(lps_mm(_GRID, "cpu"))["depth"]
    hu = to_canonical(volume, _GRID)
    brain = hu[tuple(_nearest(depth.numpy() > _SKULL_MM, _GRID))]
    return Background(
        middle_lps=middle,
        hu=torch.from_numpy(hu),
        brain_hu=torch.from_numpy(brain),
        space=space_of(hu, depth.numpy(), _GRID, atlas),
    )


def _middle(cavity: NDArray[np.bool_], survey: CanonicalGrid) -> NDArray[np.float64]:
    """Of the box around the cavity, LPS mm."""
    spans = [np.flatnonzero(cavity.any(tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in (2, 1, 0)]
    return np.array([low + span.mean() * _SURVEY_MM for low, span in zip(survey.origin_lps, spans, strict=True)])


def _moved_by(grid: AcquisitionGrid, mm: NDArray[np.float64]) -> AcquisitionGrid:
    return replace(grid, positions_lps=grid.positions_lps + mm)


def _nearest(mask: NDArray[np.bool_], grid: CanonicalGrid) -> NDArray[np.int32]:
    """(3, D, H, W): index of the nearest voxel in `mask`."""
    return np.asarray(
        ndimage.distance_transform_edt(~mask, grid.spacing_mm, return_distances=False, return_indices=True)
    )


def graft(spec: PatientSpec, background: Background, *, followup: bool = False) -> SimulatedHead:
    """The background's head with the lesions of `spec`; staining and incidental findings stay those of the head."""
    undisturbed, draw = background.space, Draw(seed=spec.seed)
    painted, space, moved_mm = bled(spec, undisturbed, partial(_displaced, undisturbed), draw, followup=followup)
    tissue = background.brain_hu
    if moved_mm is not None:
        tissue = _moved(tissue[None], moved_mm, space.grid)[0]
    share = painted.share.clamp(0, 1)
    tissue = tissue + painted.edema_hu
    painted_hu = torch.lerp(tissue, painted.hu, share * (tissue < _HARD_HU))
    hu = background.hu + torch.sigmoid(background.space.depth_mm / 0.5) * (painted_hu - background.brain_hu)
    return SimulatedHead(spec=spec, grid=space.grid, hu=hu, occupancy=painted.by_type(), space=space)


def _displaced(space: Space, moved: Tensor) -> Space:
    shares = ("grey", "white", "ventricle", "csf")
    there = _moved(torch.stack([getattr(space, name) for name in shares]), moved, space.grid)
    return replace(space, mni_mm=space.mni_mm - moved, **dict(zip(shares, there, strict=True)))


def _moved(values_cdhw: Tensor, moved_mm: Tensor, grid: CanonicalGrid) -> Tensor:
    """What was `moved_mm` (3, D, H, W; x right, y anterior, z superior) away from each voxel; linear."""
    to_lps = torch.tensor((-1.0, -1.0, 1.0))[:, None, None, None]
    place = lps_mm(grid, "cpu") - to_lps * moved_mm
    low, spacing = torch.tensor(grid.origin_lps), torch.tensor(grid.spacing_mm[::-1])
    index = (place.movedim(0, -1) - low) / spacing
    unit = index * (2 / (torch.tensor(grid.shape[::-1]) - 1)) - 1
    return functional.grid_sample(values_cdhw[None], unit[None], padding_mode="border", align_corners=True)[0]


def as_acquired(grafted: SimulatedHead, background: Background, volume: Volume) -> tuple[Volume, NDArray[np.uint8]]:
    """The graft in the slices of the real `volume`, and its labels (slice, row, column).

    Only what the graft changed is brought back, so the real image keeps its resolution and noise.
    """
    change = grafted.hu - background.hu
    seen = torch.where(change.abs() > _UNSEEN_HU, change, 0.0).numpy()
    slices = _moved_by(volume.grid, -background.middle_lps)
    hu = volume.hu + _shown(seen, grafted.grid, slices)
    shares = [_shown(share.numpy(), grafted.grid, slices) for share in grafted.occupancy]
    labels = as_labels(torch.from_numpy(np.stack(shares)), torch.from_numpy(hu)).numpy()
    return replace(volume, hu=hu), labels


def _shown(values: FloatArray, canonical: CanonicalGrid, grid: AcquisitionGrid) -> FloatArray:
    """Canonical values averaged over the thickness of each acquired slice."""
    across = grid.slice_thickness_mm[:, None] * grid.normal_lps
    beside = [replace(grid, positions_lps=grid.positions_lps + part * across) for part in _ACROSS]
    parts = [to_acquisition(values, canonical, one) for one in beside]
    return np.asarray(np.mean(parts, axis=0), np.float32)
