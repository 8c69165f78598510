"""Volumes for tests: phantoms and real series read from files, and volumes cut or altered."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ichnode.domain.study import Series
from ichnode.imaging.header import instance_from_file
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Volume
from ichnode.phantom import REGULAR, Geometry, head_ct
from tests.real_data import real_data
from tests.series_factory import stored_series


def phantom_volume(*, hematoma_ml: float, geometry: Geometry = REGULAR) -> Volume:
    """The phantom with 128 x 128 pixels, read back as a series."""
    datasets = head_ct(hematoma_ml=hematoma_ml, geometry=replace(geometry, rows=128, columns=128)).datasets
    with TemporaryDirectory() as folder:
        return read_volume(stored_series(datasets, Path(folder)))


def real_volume(folder: str) -> Volume:
    """A series of the test data."""
    instances = tuple(instance_from_file(file) for file in sorted(real_data(folder).iterdir()))
    first = instances[0]
    return read_volume(
        Series(
            series_instance_uid=first.series_instance_uid,
            study_instance_uid=first.study_instance_uid,
            instances=instances,
        )
    )


def with_hu(volume: Volume, hu: FloatArray) -> Volume:
    return Volume(hu=hu.astype(np.float32), grid=volume.grid)


def mirrored(volume: Volume) -> Volume:
    """Left and right exchanged."""
    return with_hu(volume, volume.hu[:, :, ::-1].copy())


def noisy(volume: Volume, sd_hu: float) -> Volume:
    return with_hu(volume, volume.hu + np.random.default_rng(0).normal(0, sd_hu, volume.hu.shape))


def slices_of(volume: Volume, first: int, last: int) -> Volume:
    """A part of the slices, as a scan that was started late or stopped early."""
    grid, part = volume.grid, slice(first, last)
    return Volume(
        hu=volume.hu[part],
        grid=replace(
            grid,
            positions_lps=grid.positions_lps[part],
            slice_thickness_mm=grid.slice_thickness_mm[part],
            sop_instance_uids=grid.sop_instance_uids[part],
            frame_numbers=grid.frame_numbers[part],
        ),
    )


def cut_to_columns(volume: Volume, first: int, last: int) -> Volume:
    """A part of the columns, as a field of view that does not hold the whole head."""
    grid = volume.grid
    moved_lps = first * grid.pixel_spacing_mm[1] * grid.row_direction_lps
    return Volume(
        hu=volume.hu[:, :, first:last].copy(),
        grid=replace(grid, columns=last - first, positions_lps=grid.positions_lps + moved_lps),
    )


def grid_of(
    shape: tuple[int, int, int], *, slice_mm: float = 5.0, pixel_spacing_mm: tuple[float, float] = (1.0, 1.0)
) -> AcquisitionGrid:
    """Axial slices around the origin: x and y of LPS are 0 at the middle of the image."""
    slices, rows, columns = shape
    corner = (-(columns - 1) / 2 * pixel_spacing_mm[1], -(rows - 1) / 2 * pixel_spacing_mm[0])
    return AcquisitionGrid(
        rows=rows,
        columns=columns,
        positions_lps=np.array([(*corner, slice_mm * index) for index in range(slices)]),
        row_direction_lps=np.array([1.0, 0.0, 0.0]),
        column_direction_lps=np.array([0.0, 1.0, 0.0]),
        pixel_spacing_mm=pixel_spacing_mm,
        slice_thickness_mm=np.full(slices, slice_mm),
        sop_instance_uids=tuple(f"1.2.{index}" for index in range(1, slices + 1)),
        frame_numbers=(1,) * slices,
    )
