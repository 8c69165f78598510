"""Grafted: simulated hemorrhage in a real head CT, on its slices (made even where they are not), as a CT of its own."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ichnode.imaging.volume import Volume
from training.simulate.acquire import GRAFTED, SimulatedCT, named
from training.simulate.atlas import Atlas
from training.simulate.background import Background, as_acquired, background_of, graft, read_background
from training.simulate.spec import PatientSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RealHead:
    """A head without hemorrhage, read once for all patients."""

    volume: Volume
    background: Background


def real_head(path: Path, atlas: Atlas) -> RealHead:
    """A folder of DICOM files, or NIfTI. Raises DataError, RefusedSeries and OSError."""
    volume = evened(read_background(path))
    return RealHead(volume=volume, background=background_of(volume, atlas))


def grafted_ct(spec: PatientSpec, head: RealHead, *, followup: bool) -> SimulatedCT:
    """The head with the lesions of `spec`."""
    painted = graft(spec, head.background, followup=followup)
    seen, labels = as_acquired(painted, head.background, head.volume)
    hu = np.clip(np.rint(seen.hu), -1024, 3071).astype(np.float32)
    return SimulatedCT(spec=spec, style=GRAFTED, followup=followup, volume=named(hu, seen.grid), labels=labels)


def evened(volume: Volume) -> Volume:
    """On slices at even distances, the median of the real ones, linear between them: NIfTI knows no other."""
    grid = volume.grid
    gaps = np.diff(grid.offsets_mm)
    if np.ptp(gaps) < 0.01:
        return volume
    offsets = np.arange(grid.offsets_mm[0], grid.offsets_mm[-1], float(np.median(gaps)))
    sources = np.interp(offsets, grid.offsets_mm, np.arange(len(grid.offsets_mm)))
    shares = np.clip(1 - np.abs(sources[:, None] - np.arange(len(grid.offsets_mm))), 0, None)
    even = replace(
        grid,
        positions_lps=shares @ grid.positions_lps,
        slice_thickness_mm=np.full(len(offsets), float(np.median(gaps))),
        sop_instance_uids=("",) * len(offsets),
        frame_numbers=(1,) * len(offsets),
    )
    return Volume(hu=np.tensordot(shares.astype(np.float32), volume.hu, 1), grid=even)
