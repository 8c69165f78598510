"""Both ways between acquired slices and the canonical grid: nothing moves, nothing grows."""

from dataclasses import replace

import numpy as np
import pytest

from ichnode.imaging.resample import CanonicalGrid, canonical_grid_for, to_acquisition, to_canonical
from ichnode.imaging.volume import AcquisitionGrid, Volume
from ichnode.phantom import IRREGULAR, REGULAR, REVERSED, THIN, TILTED, Geometry

GEOMETRIES = {
    "regular": REGULAR,
    "thin": THIN,
    "tilted": TILTED,
    "reversed": REVERSED,
    "irregular": IRREGULAR,
    "irregular and tilted": replace(IRREGULAR, tilt_deg=-18.5),
}
MODEL_SPACING, COARSE_SPACING = (2.5, 1.0, 1.0), (4.0, 2.5, 3.0)
CENTRE, SEMI_AXES = np.array([28.0, -11.0, 9.0]), np.array([18.0, 27.0, 22.0])  # LPS mm, nowhere symmetric


def grid_of(geometry: Geometry) -> AcquisitionGrid:
    """As the series reader gives it: sorted along the normal."""
    tilt = np.radians(geometry.tilt_deg)
    along_row, along_column = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), -np.sin(tilt)])
    spacing = geometry.field_of_view_mm / geometry.columns
    to_corner = (along_row * (geometry.columns - 1) + along_column * (geometry.rows - 1)) * spacing / 2
    offsets = np.sort(geometry.offsets_mm)
    return AcquisitionGrid(
        rows=geometry.rows,
        columns=geometry.columns,
        positions_lps=np.outer(offsets, [0, 0, 1]) - to_corner,
        row_direction_lps=along_row,
        column_direction_lps=along_column,
        pixel_spacing_mm=(spacing, spacing),
        slice_thickness_mm=np.array(geometry.thickness_mm),
        sop_instance_uids=tuple(f"1.{i}" for i in range(len(offsets))),
        frame_numbers=(1,) * len(offsets),
    )


def oblique_grid() -> AcquisitionGrid:
    """Turned about all three axes, slices shifted sideways, with unequal pixel spacings."""
    turned = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [-0.15, 1.0, 0.3], [0.1, -0.25, 1.0]]).T)[0]
    row, column = (v * np.sign(v[i]) for i, v in enumerate(turned.T[:2]))
    middle = np.outer(np.arange(-20, 20) * 4.0, np.cross(row, column) + 0.1 * row)
    grid = grid_of(replace(REGULAR, rows=100, columns=90))
    return replace(
        grid,
        positions_lps=middle - row * 2.2 * 44.5 - column * 2.0 * 49.5,
        row_direction_lps=row,
        column_direction_lps=column,
        pixel_spacing_mm=(2.0, 2.2),
        slice_thickness_mm=np.full(40, 4.0),
        sop_instance_uids=tuple(f"1.{i}" for i in range(40)),
        frame_numbers=(1,) * 40,
    )


GRIDS = {name: grid_of(replace(geometry, rows=128, columns=128)) for name, geometry in GEOMETRIES.items()} | {
    "oblique": oblique_grid()
}
all_grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def acquired_places(grid: AcquisitionGrid) -> np.ndarray:
    """LPS mm of each voxel, (slice, row, column, 3)."""
    down = np.arange(grid.rows)[:, None, None] * grid.column_direction_lps * grid.pixel_spacing_mm[0]
    across = np.arange(grid.columns)[None, :, None] * grid.row_direction_lps * grid.pixel_spacing_mm[1]
    return grid.positions_lps[:, None, None, :] + (down + across)[None]


def canonical_places(grid: CanonicalGrid) -> np.ndarray:
    """LPS mm of each voxel, (z, y, x, 3)."""
    z, y, x = np.indices(grid.shape)
    steps = np.stack([x, y, z], axis=-1) * np.array(grid.spacing_mm[::-1])
    return np.asarray(steps + np.array(grid.origin_lps))


def ellipsoid(places: np.ndarray) -> np.ndarray:
    return np.asarray((((places - CENTRE) / SEMI_AXES) ** 2).sum(axis=-1) <= 1, np.float32)


@all_grids
def test_the_volume_of_an_ellipsoid_survives_there_and_back(grid: AcquisitionGrid) -> None:
    mask = ellipsoid(acquired_places(grid))
    acquired_ml = float(mask.sum(axis=(1, 2)) @ grid.voxel_ml)
    canonical = canonical_grid_for(grid, MODEL_SPACING)

    there = np.maximum(to_canonical(Volume(hu=mask, grid=grid), canonical), 0)
    back = to_acquisition(there, canonical, grid)

    assert there.sum() * np.prod(MODEL_SPACING) / 1000 == pytest.approx(acquired_ml, rel=0.01)
    assert back.sum(axis=(1, 2)) @ grid.voxel_ml == pytest.approx(acquired_ml, rel=0.01)


@all_grids
def test_a_mask_comes_back_where_it_was_drawn(grid: AcquisitionGrid) -> None:
    canonical = canonical_grid_for(grid, MODEL_SPACING)

    back = to_acquisition(ellipsoid(canonical_places(canonical)), canonical, grid) >= 0.5

    drawn = ellipsoid(acquired_places(grid)) > 0
    assert 2 * (back & drawn).sum() / (back.sum() + drawn.sum()) > 0.97  # Dice


@all_grids
def test_every_place_keeps_its_coordinates_on_the_canonical_grid(grid: AcquisitionGrid) -> None:
    """A volume whose value is a coordinate shows at each voxel where the value came from."""
    canonical = canonical_grid_for(grid, COARSE_SPACING)
    acquired, places = acquired_places(grid), canonical_places(canonical)
    inside = np.abs(places - CENTRE).max(axis=-1) < 40
    for axis in range(3):
        coordinate = to_canonical(Volume(hu=acquired[..., axis].astype(np.float32), grid=grid), canonical)
        np.testing.assert_allclose(coordinate[inside], places[inside][:, axis], atol=0.01)


@all_grids
def test_every_place_keeps_its_coordinates_on_the_way_back(grid: AcquisitionGrid) -> None:
    canonical = canonical_grid_for(grid, COARSE_SPACING)
    drawn, places = canonical_places(canonical), acquired_places(grid)
    inside = np.abs(places - CENTRE).max(axis=-1) < 40
    for axis in range(3):
        values = drawn[..., axis].astype(np.float32) + 1000  # nowhere zero
        back = to_acquisition(values, canonical, grid) - 1000
        np.testing.assert_allclose(back[inside], places[inside][:, axis], atol=0.01)


@all_grids
def test_the_canonical_grid_holds_everything_acquired(grid: AcquisitionGrid) -> None:
    canonical = canonical_grid_for(grid, COARSE_SPACING)
    edge = canonical_places(canonical)
    half = np.array(COARSE_SPACING[::-1]) / 2

    places = acquired_places(grid).reshape(-1, 3)
    assert (places.min(axis=0) >= edge[0, 0, 0] - half).all()
    assert (places.max(axis=0) <= edge[-1, -1, -1] + half).all()


def test_air_is_where_nothing_was_acquired() -> None:
    grid = GRIDS["tilted"]
    volume = Volume(hu=np.full(grid.shape, 40, np.float32), grid=grid)

    hu = to_canonical(volume, canonical_grid_for(grid, MODEL_SPACING))

    assert set(np.unique(hu)) == {-1024.0, 40.0}
    acquired_ml = grid.shape[1] * grid.shape[2] * grid.voxel_ml.sum()
    assert (hu == 40).sum() * np.prod(MODEL_SPACING) / 1000 == pytest.approx(acquired_ml, rel=0.01)


def test_end_slices_reach_half_a_gap_outwards_and_no_farther() -> None:
    grid = GRIDS["regular"]  # offsets -77.5 ... 77.5, 5 mm apart
    volume = Volume(hu=np.full(grid.shape, 40, np.float32), grid=grid)
    column = CanonicalGrid(shape=(7, 1, 1), spacing_mm=(1.0, 1.0, 1.0), origin_lps=(0.0, 0.0, 77.0))

    assert to_canonical(volume, column)[:, 0, 0].tolist() == [40, 40, 40, 40, -1024, -1024, -1024]


@all_grids
def test_the_box_around_a_small_finding_leaves_nothing_out(grid: AcquisitionGrid) -> None:
    """With one value far away the whole grid is worked on, and the finding comes out the same."""
    canonical = canonical_grid_for(grid, COARSE_SPACING)
    alone = np.zeros(canonical.shape, np.float32)
    middle = tuple(n // 2 for n in canonical.shape)
    alone[middle[0] : middle[0] + 3, middle[1] : middle[1] + 5, middle[2] : middle[2] + 9] = 1
    spread = alone.copy()
    spread[0, 0, 0] = spread[-1, -1, -1] = 1e-9

    expected = to_acquisition(spread, canonical, grid)
    np.testing.assert_allclose(to_acquisition(alone, canonical, grid), expected, atol=1e-6)
    assert expected.max() > 0.4


def test_nothing_found_gives_nothing() -> None:
    grid = GRIDS["irregular"]
    canonical = canonical_grid_for(grid, MODEL_SPACING)

    assert not to_acquisition(np.zeros(canonical.shape, np.bool_), canonical, grid).any()
