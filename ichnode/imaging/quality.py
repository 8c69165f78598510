"""The image gate: is this a head with a brain in it, enough of it, and is it cut off? Headers lie; pixels are asked.

Contrast agent is not looked for: without a pair of scans, enhanced vessels and acute blood have the same HU.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, generate_binary_structure, label

from ichnode.domain.findings import Caveat
from ichnode.domain.reasons import Reason
from ichnode.errors import RefusedSeries
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask, Volume

STEP_MM = 4.0  # the gate looks at voxels of about this size
BONE_HU = 150.0
BRAIN_HU = (-5.0, 100.0)  # CSF to acute blood
MIN_BRAIN_SHARE = 0.5  # of the space inside the skull; air and plastic fill the rest of a test object
MIN_BRAIN_ML = 400.0  # a newborn's whole brain
MIN_HEIGHT_MM = 80.0  # of brain, an adult's is about 130
# of the brain's largest section along an axis, what its section at an end of the volume may be: more, and it is cut off
CUT_OFF_SHARE = {Caveat.CUT_OFF_ABOVE: 0.3, Caveat.CUT_OFF_BELOW: 0.5, Caveat.CUT_OFF_ASIDE: 0.1}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Brain:
    mask: Mask  # coarse
    volume_ml: float
    share: float  # of the space inside the skull
    height_mm: float


def checked_head(volume: Volume) -> Volume:
    """The volume, with a caveat for each side where brain is cut off.

    Raises RefusedSeries with NO_BRAIN or PARTIAL_HEAD, and what was measured.
    """
    brain = _brain(volume)
    if brain.share < MIN_BRAIN_SHARE or brain.volume_ml < MIN_BRAIN_ML / 4:
        fact = f"{brain.volume_ml:.0f} mL of brain tissue, {brain.share:.0%} of the space inside the skull"
        raise RefusedSeries(Reason.NO_BRAIN, fact)
    if brain.height_mm < MIN_HEIGHT_MM or brain.volume_ml < MIN_BRAIN_ML:
        fact = f"{brain.volume_ml:.0f} mL of brain over {brain.height_mm:.0f} mm"
        raise RefusedSeries(Reason.PARTIAL_HEAD, fact)
    return replace(volume, caveats=(*volume.caveats, *_cut_off(brain.mask, volume.grid)))


def _cut_off(brain: Mask, grid: AcquisitionGrid) -> list[Caveat]:
    """In which directions the brain (slice, row, column) goes on beyond the volume."""
    found = set()
    for axis, direction in enumerate((grid.normal_lps, grid.column_direction_lps, grid.row_direction_lps)):
        sections = brain.sum(axis=tuple({0, 1, 2} - {axis}))
        for end, outward in ((0, -direction), (-1, direction)):
            where = Caveat.CUT_OFF_ASIDE
            if np.abs(outward).argmax() == 2:
                where = Caveat.CUT_OFF_ABOVE if outward[2] > 0 else Caveat.CUT_OFF_BELOW
            if sections[end] > CUT_OFF_SHARE[where] * sections.max():
                found.add(where)
    return sorted(found)


def _brain(volume: Volume) -> _Brain:
    hu, voxel_ml, extents_mm = _coarse(volume)
    bone = hu > min(BONE_HU, 0.95 * float(hu.max()))
    inside = _surrounded(bone) & ~bone
    tissue = inside & (hu > BRAIN_HU[0]) & (hu < BRAIN_HU[1])
    brain = _main_part(tissue)
    covered = brain.any(axis=(1, 2))
    return _Brain(
        mask=brain,
        volume_ml=float(brain.sum(axis=(1, 2)) @ voxel_ml),
        share=float(brain[covered].sum() / max(1, inside[covered].sum())),
        height_mm=float(extents_mm[covered].sum()),
    )


def _coarse(volume: Volume) -> tuple[FloatArray, FloatArray, FloatArray]:
    """HU (slice, row, column) averaged over blocks of about STEP_MM; voxel volume in mL, extent in mm of each slice."""
    grid = volume.grid
    sizes = (float(np.median(grid.slice_extents_mm)), *grid.pixel_spacing_mm)
    by = [min(max(1, round(STEP_MM / size)), count) for size, count in zip(sizes, grid.shape, strict=True)]
    slices, rows, columns = (count // step for count, step in zip(grid.shape, by, strict=True))
    whole = volume.hu[: slices * by[0], : rows * by[1], : columns * by[2]]
    blocks = whole.reshape(slices, by[0], rows, by[1], columns * by[2]).mean(axis=(1, 3))
    hu = blocks.reshape(slices, rows, columns, by[2]).mean(axis=3)
    extents_mm = grid.slice_extents_mm[: slices * by[0]].reshape(slices, by[0]).sum(axis=1)
    voxel_ml = extents_mm * grid.pixel_spacing_mm[0] * by[1] * grid.pixel_spacing_mm[1] * by[2] / 1000
    return np.maximum(hu, -1024), voxel_ml.astype(np.float32), extents_mm.astype(np.float32)


def _surrounded(bone: Mask) -> Mask:
    """Voxels that meet bone on at least three of four sides in their slice: a craniectomy opens one."""
    seen = np.zeros(bone.shape, dtype=np.int8)
    for axis in (1, 2):
        seen += np.maximum.accumulate(bone, axis=axis)
        seen += np.flip(np.maximum.accumulate(np.flip(bone, axis), axis=axis), axis)
    return np.asarray(seen >= 3)


def _main_part(tissue: Mask) -> Mask:
    """The largest part that hangs together by more than a thread: brain without orbits, muscle and face."""
    cross = generate_binary_structure(3, 1)
    flat = cross & np.array([False, True, False])[:, None, None]
    labels, count = label(binary_erosion(tissue, flat))
    if count == 0:
        return np.zeros_like(tissue)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(binary_dilation(labels == largest, flat) & tissue)
