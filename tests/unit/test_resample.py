"""Both ways between acquired slices and the canonical grid: nothing moves, nothing grows."""

from dataclasses import replace

import numpy as np
import pytest

from ichnode.imaging import interpolate
from ichnode.imaging.resample import (
    CanonicalGrid,
    canonical_grid_for,
    half_a_voxel_off,
    highest_class,
    to_acquisition,
    to_canonical,
)
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
def test_rows_at_once_are_what_each_voxel_is_by_itself(grid: AcquisitionGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    fine, coarse = canonical_grid_for(grid, MODEL_SPACING), canonical_grid_for(grid, COARSE_SPACING)
    noise = np.random.default_rng(7).random(grid.shape, np.float32)
    values = np.random.default_rng(8).random(coarse.shape, np.float32)
    there = to_canonical(Volume(hu=noise, grid=grid), fine)
    back = to_acquisition(values, coarse, grid)

    monkeypatch.setattr(interpolate, "_rows_are_rows", lambda indices: False)
    np.testing.assert_allclose(there, to_canonical(Volume(hu=noise, grid=grid), fine), atol=1e-5)
    np.testing.assert_allclose(back, to_acquisition(values, coarse, grid), atol=1e-5)


@all_grids
def test_leveled_slices_lie_along_x_and_y_with_all_distances_and_extents_kept(grid: AcquisitionGrid) -> None:
    level = grid.leveled()
    assert abs(level.row_direction_lps[2]) < 1e-12 > abs(level.column_direction_lps[2])
    places, turned = (acquired_places(one)[::7, ::40, ::30].reshape(-1, 3) for one in (grid, level))
    distances, kept = (np.linalg.norm(each[:, None] - each, axis=-1) for each in (places, turned))
    np.testing.assert_allclose(kept, distances, atol=1e-9)
    np.testing.assert_allclose(level.voxel_ml, grid.voxel_ml)


def test_slices_that_lie_along_x_and_y_stay_where_they_are() -> None:
    for name in ("regular", "reversed", "irregular"):
        np.testing.assert_array_equal(acquired_places(GRIDS[name].leveled()), acquired_places(GRIDS[name]))


def test_slices_that_are_not_axial_stay_as_they_are() -> None:
    coronal = replace(
        GRIDS["regular"], row_direction_lps=np.array([1.0, 0, 0]), column_direction_lps=np.array([0, 0, -1.0])
    )
    assert coronal.leveled() is coronal


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


@pytest.mark.parametrize("tilt_deg", [0.0, 12.0])
def test_of_thin_slices_and_fine_pixels_all_are_used(tilt_deg: float) -> None:
    thin = grid_of(replace(THIN, rows=100, columns=100, field_of_view_mm=50.0, tilt_deg=tilt_deg))
    noise = np.random.default_rng(0).normal(30, 10, thin.shape).astype(np.float32)
    spacing = (5.0, 1.0, 1.0)  # of 5 slices, 2 rows and 2 columns: 20 voxels

    hu = to_canonical(Volume(hu=noise, grid=thin), canonical_grid_for(thin, spacing))

    inside = hu[4:-4, 10:-10, 10:-10]
    assert inside.mean() == pytest.approx(30, abs=0.1)
    assert inside.std() < 10 / 20**0.5 * 1.1


def test_a_thin_sheet_keeps_its_amount_in_thick_voxels() -> None:
    """Its partial volume is the same wherever it lies among the slices."""
    thin = grid_of(replace(THIN, rows=16, columns=16))
    canonical = canonical_grid_for(thin, (5.0, 20.0, 20.0))
    amounts = []
    for at in range(70, 80):
        sheet = np.zeros(thin.shape, np.float32)
        sheet[at] = 100
        amounts.append(to_canonical(Volume(hu=sheet, grid=thin), canonical)[4:-4, 5, 5].sum())
    np.testing.assert_allclose(amounts, 100 / 5, rtol=0.01)


def test_slices_as_thick_as_the_canonical_ones_are_not_blurred() -> None:
    grid = grid_of(replace(REGULAR, rows=64, columns=64))
    noise = np.random.default_rng(0).normal(30, 10, grid.shape).astype(np.float32)
    spacing = (5.0, *grid.pixel_spacing_mm)

    np.testing.assert_allclose(
        to_canonical(Volume(hu=noise, grid=grid), canonical_grid_for(grid, spacing)), noise, atol=1e-3
    )


@pytest.mark.parametrize("geometry", [THIN, replace(THIN, tilt_deg=12)], ids=["thin", "thin and tilted"])
def test_averaging_reaches_as_far_as_what_was_acquired_and_no_farther(geometry: Geometry) -> None:
    grid = grid_of(replace(geometry, rows=96, columns=96, field_of_view_mm=45.0))
    full = Volume(hu=np.full(grid.shape, 40, np.float32), grid=grid)

    hu = to_canonical(full, canonical_grid_for(grid, (4.0, 1.5, 1.5)))

    assert set(np.unique(hu.round(3))) <= {-1024.0, 40.0}
    acquired_ml = grid.shape[1] * grid.shape[2] * grid.voxel_ml.sum()
    assert (hu > 0).sum() * 4 * 1.5 * 1.5 / 1000 == pytest.approx(acquired_ml, rel=0.03)


def test_a_single_slice_goes_there_and_back_with_its_thickness() -> None:
    grid = grid_of(Geometry(offsets_mm=(12.0,), thickness_mm=(6.0,), rows=64, columns=64))
    canonical = canonical_grid_for(grid, (3.0, 4.0, 4.0))
    mask = ellipsoid(acquired_places(grid))

    there = np.maximum(to_canonical(Volume(hu=mask, grid=grid), canonical), 0)
    back = to_acquisition(there, canonical, grid)

    assert canonical.shape[0] == 2
    assert grid.slice_extents_mm.tolist() == [6.0]
    assert back.sum() * grid.voxel_ml[0] == pytest.approx(float(mask.sum()) * grid.voxel_ml[0], rel=0.03)


def test_the_highest_class_is_told_where_it_is_asked_for() -> None:
    grid = GRIDS["irregular and tilted"]
    canonical = canonical_grid_for(grid, MODEL_SPACING)
    places = canonical_places(canonical)
    left = (places[..., 0] > 0).astype(np.float32)
    where = ellipsoid(acquired_places(grid)) > 0

    classes = highest_class([(canonical, np.stack([left * 0.6, 0.7 - left * 0.6]))], grid, where)

    assert not classes[~where].any()
    on_the_left = acquired_places(grid)[..., 0]
    assert (classes[where & (on_the_left > 1)] == 1).all()
    assert (classes[where & (on_the_left < -1)] == 2).all()


def test_the_highest_class_is_that_of_all_looks_together() -> None:
    grid = GRIDS["irregular and tilted"]
    canonical = canonical_grid_for(grid, MODEL_SPACING)
    beside = half_a_voxel_off(canonical)
    where = ellipsoid(acquired_places(grid)) > 0
    first = np.stack([np.full(canonical.shape, 0.6, np.float32), np.full(canonical.shape, 0.4, np.float32)])
    second = np.stack([np.full(beside.shape, 0.1, np.float32), np.full(beside.shape, 0.9, np.float32)])

    assert (highest_class([(canonical, first)], grid, where)[where] == 1).all()
    assert (highest_class([(canonical, first), (beside, second)], grid, where)[where] == 2).all()


def test_nothing_found_gives_nothing() -> None:
    grid = GRIDS["irregular"]
    canonical = canonical_grid_for(grid, MODEL_SPACING)

    assert not to_acquisition(np.zeros(canonical.shape, np.bool_), canonical, grid).any()
