from dataclasses import replace
from math import cos, radians, sin

import numpy as np
import pytest

from ichnode.domain.findings import Caveat, Hematoma, HemorrhageType, ModelIdentity, Side
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask, Volume
from ichnode.inference.manifest import Thresholds
from ichnode.inference.quantify import quantify
from tests.volume_factory import grid_of, phantom_volume

THRESHOLDS = Thresholds(found=0.5, strict=0.8, lenient=0.2)
MODEL = ModelIdentity(name="test", version="1", weights_sha256="0" * 64, family="classical", trained_on="nothing")
GRID = grid_of((16, 128, 128), slice_mm=5.0, pixel_spacing_mm=(2.0, 2.0))


def ellipsoid(grid: AcquisitionGrid, centre_lps: tuple[float, float, float], axes_mm: tuple[float, ...]) -> FloatArray:
    """(slice, row, column): 1 in the centre, 0 on the surface and beyond, falling linearly."""
    z, y, x = np.meshgrid(
        grid.positions_lps[:, 2],
        grid.positions_lps[0, 1] + np.arange(grid.rows) * grid.pixel_spacing_mm[0],
        grid.positions_lps[0, 0] + np.arange(grid.columns) * grid.pixel_spacing_mm[1],
        indexing="ij",
    )
    parts = [((w - c) / a) ** 2 for w, c, a in zip((x, y, z), centre_lps, axes_mm, strict=True)]
    return np.clip(1 - np.sqrt(sum(parts)), 0, 1).astype(np.float32)


def head(grid: AcquisitionGrid, centre_x_mm: float = 0.0, turned_deg: float = 0.0) -> Volume:
    """A head of 150 x 190 mm on every slice."""
    y, x = np.meshgrid(
        grid.positions_lps[0, 1] + np.arange(grid.rows) * grid.pixel_spacing_mm[0],
        grid.positions_lps[0, 0] + np.arange(grid.columns) * grid.pixel_spacing_mm[1] - centre_x_mm,
        indexing="ij",
    )
    turn = radians(turned_deg)
    across, along = x * cos(turn) + y * sin(turn), y * cos(turn) - x * sin(turn)
    inside = (across / 75) ** 2 + (along / 95) ** 2 <= 1
    return Volume(hu=np.broadcast_to(np.where(inside, 35, -1000), grid.shape).astype(np.float32), grid=grid)


def measured(volume: Volume, probability: FloatArray, mask: Mask | None = None) -> Hematoma:
    found = probability >= THRESHOLDS.found if mask is None else mask
    prediction = Prediction(model=MODEL, probability=probability, hematoma=found)
    hematoma = quantify(prediction, volume, THRESHOLDS).hematoma
    assert hematoma is not None
    return hematoma


def block(grid: AcquisitionGrid, slices: slice, rows: slice, columns: slice) -> FloatArray:
    probability = np.zeros(grid.shape, np.float32)
    probability[slices, rows, columns] = 0.9
    return probability


def test_nothing_found_gives_findings_without_a_hematoma() -> None:
    empty = np.zeros(GRID.shape, np.float32)
    findings = quantify(Prediction(model=MODEL, probability=empty, hematoma=empty > 0), head(GRID), THRESHOLDS)
    assert findings.hematoma is None
    assert findings.model is MODEL


def test_the_volume_uses_the_distance_between_slices_not_their_thickness() -> None:
    hematoma = measured(head(GRID), block(GRID, slice(4, 8), slice(60, 70), slice(70, 80)))
    assert hematoma.volume_ml == pytest.approx(4 * 5 * 20 * 20 / 1000)


def test_the_volume_range_holds_the_volume_and_opens_with_soft_edges() -> None:
    hematoma = measured(head(GRID), ellipsoid(GRID, (30, 0, 40), (40, 40, 40)))
    assert hematoma.volume_low_ml < hematoma.volume_ml < hematoma.volume_high_ml
    assert hematoma.volume_low_ml == pytest.approx(4.19 * 8**3 / 1000, rel=0.1)
    assert hematoma.volume_high_ml == pytest.approx(4.19 * 32**3 / 1000, rel=0.1)


def test_a_faint_place_elsewhere_does_not_widen_the_range() -> None:
    probability = ellipsoid(GRID, (30, 0, 40), (30, 30, 30))
    alone = measured(head(GRID), probability)
    elsewhere = 0.4 * (ellipsoid(GRID, (-40, 0, 40), (15, 15, 15)) > 0)
    assert measured(head(GRID), np.maximum(probability, elsewhere)).volume_high_ml == alone.volume_high_ml


def test_each_type_has_its_part_of_the_volume_and_of_its_range() -> None:
    probability = ellipsoid(GRID, (30, 0, 40), (40, 40, 40))
    found = probability >= THRESHOLDS.found
    types = np.where(probability >= THRESHOLDS.lenient, 1, 0).astype(np.uint8)
    types[:, :, 84:] *= 2  # to the left of x = 40 mm
    prediction = Prediction(
        model=MODEL, probability=probability, hematoma=found, classes=("IVH", "IPH", "SAH"), types=types
    )

    hematoma = quantify(prediction, head(GRID), THRESHOLDS).hematoma

    assert hematoma is not None
    assert [part.type for part in hematoma.parts] == [HemorrhageType.IVH, HemorrhageType.IPH]  # largest first
    ivh = hematoma.parts[0]
    assert ivh.volume_ml == pytest.approx(GRID.volume_ml(found & (types == 1)))
    assert ivh.volume_low_ml < ivh.volume_ml < ivh.volume_high_ml
    for name in ("volume_ml", "volume_low_ml", "volume_high_ml"):
        assert sum(getattr(part, name) for part in hematoma.parts) == pytest.approx(getattr(hematoma, name))


def test_without_types_there_are_no_parts() -> None:
    assert measured(head(GRID), ellipsoid(GRID, (30, 0, 40), (40, 40, 40))).parts == ()


def test_a_caveat_about_the_volume_stands_on_its_findings() -> None:
    volume = replace(head(GRID), caveats=(Caveat.EIGHT_BIT,))
    empty = np.zeros(GRID.shape, np.float32)
    findings = quantify(Prediction(model=MODEL, probability=empty, hematoma=empty > 0), volume, THRESHOLDS)
    assert findings.caveats == (Caveat.EIGHT_BIT,)


def test_diameters_follow_the_spacing_of_rows_and_of_columns() -> None:
    grid = grid_of((16, 128, 256), pixel_spacing_mm=(2.0, 1.0))
    hematoma = measured(head(grid), block(grid, slice(4, 8), slice(50, 70), slice(140, 150)))
    assert hematoma.long_axis_mm == pytest.approx(np.hypot(40, 10), rel=0.05)
    assert hematoma.largest_area_mm2 == pytest.approx(400)


def test_diameters_of_an_oblique_ellipse_are_its_own_not_its_boxs() -> None:
    grid = grid_of((3, 256, 256))
    y, x = np.mgrid[-127.5:128, -127.5:128]
    along, across = (x + y) / 2**0.5, (x - y) / 2**0.5
    ellipse = (along / 30) ** 2 + (across / 12) ** 2 <= 1
    hematoma = measured(head(grid), np.broadcast_to(ellipse, grid.shape).astype(np.float32))
    assert hematoma.long_axis_mm == pytest.approx(60, abs=1.5)
    assert hematoma.short_axis_mm == pytest.approx(24, abs=1.5)


def test_abc2_counts_slices_as_kothari_does() -> None:
    areas = {5: 10, 6: 20, 7: 20, 8: 8, 9: 4}  # columns of 20 rows: 50 %, 100 %, 100 %, 40 %, 20 % of the largest
    probability = np.zeros(GRID.shape, np.float32)
    for index, columns in areas.items():
        probability[index, 60:80, 70 : 70 + columns] = 0.9
    hematoma = measured(head(GRID), probability)
    height_mm = 5 * (0.5 + 1 + 1 + 0.5 + 0)
    assert hematoma.abc2_ml == pytest.approx(hematoma.long_axis_mm * hematoma.short_axis_mm * height_mm / 2000)


def test_abc2_of_two_components_is_the_sum_of_both() -> None:
    one = block(GRID, slice(4, 8), slice(60, 70), slice(80, 90))
    other = block(GRID, slice(9, 12), slice(60, 68), slice(30, 38))
    both = measured(head(GRID), np.maximum(one, other))
    assert both.component_count == 2
    assert both.abc2_ml == pytest.approx(measured(head(GRID), one).abc2_ml + measured(head(GRID), other).abc2_ml)


def test_the_largest_slice_is_named() -> None:
    probability = block(GRID, slice(4, 8), slice(60, 70), slice(80, 90))
    probability[6, 60:70, 80:95] = 0.9
    assert measured(head(GRID), probability).largest_slice_uid == GRID.sop_instance_uids[6]


def test_the_probability_is_the_highest_inside() -> None:
    probability = ellipsoid(GRID, (30, 0, 40), (40, 40, 40))
    assert measured(head(GRID), probability).probability == pytest.approx(float(probability.max()))


@pytest.mark.parametrize(
    ("x_mm", "side"), [(30, Side.LEFT), (-30, Side.RIGHT), (5, Side.LEFT), (1.5, Side.MIDLINE), (-1.5, Side.MIDLINE)]
)
def test_left_is_the_patients_left(x_mm: float, side: Side) -> None:
    assert measured(head(GRID), ellipsoid(GRID, (x_mm, 0, 40), (20, 20, 20))).side == side


@pytest.mark.parametrize(("x_mm", "side"), [(10, Side.RIGHT), (20, Side.MIDLINE), (30, Side.LEFT)])
def test_the_midline_is_the_heads_not_the_images(x_mm: float, side: Side) -> None:
    assert measured(head(GRID, centre_x_mm=20), ellipsoid(GRID, (x_mm, 0, 40), (15, 15, 15))).side == side


def test_the_midline_turns_with_the_head() -> None:
    in_front_on_the_midline = (60 * sin(radians(20)), -60 * cos(radians(20)), 40)
    turned = head(GRID, turned_deg=20)
    straight = head(GRID)
    probability = ellipsoid(GRID, in_front_on_the_midline, (20, 20, 20))
    assert measured(turned, probability).side == Side.MIDLINE
    assert measured(straight, probability).side == Side.LEFT


def test_half_a_head_has_no_side() -> None:
    cut_off = replace(head(GRID), caveats=(Caveat.CUT_OFF_ASIDE,))
    assert measured(cut_off, ellipsoid(GRID, (30, 0, 40), (20, 20, 20))).side == Side.UNTOLD


def test_the_side_on_sagittal_slices_is_the_same() -> None:
    axial = head(GRID)
    sagittal = AcquisitionGrid(
        rows=GRID.shape[0],
        columns=GRID.rows,
        positions_lps=np.array([GRID.positions_lps[-1] + (2.0 * x, 0, 0) for x in range(GRID.columns)][::-1]),
        row_direction_lps=np.array([0.0, 1.0, 0.0]),
        column_direction_lps=np.array([0.0, 0.0, -1.0]),
        pixel_spacing_mm=(5.0, 2.0),
        slice_thickness_mm=np.full(GRID.columns, 2.0),
        sop_instance_uids=tuple(f"1.2.{index}" for index in range(1, GRID.columns + 1)),
        frame_numbers=(1,) * GRID.columns,
    )
    probability = ellipsoid(GRID, (30, 0, 40), (20, 20, 20))
    hu, turned = (part[::-1].transpose(2, 0, 1)[::-1].copy() for part in (axial.hu, probability))
    assert measured(Volume(hu=hu, grid=sagittal), turned).side == Side.LEFT


def test_the_head_holder_does_not_move_the_midline() -> None:
    volume = head(GRID)
    volume.hu[:, 100:128, 0:8] = 200  # one side of a head holder, apart from the head
    assert measured(volume, ellipsoid(GRID, (0, 0, 40), (15, 15, 15))).side == Side.MIDLINE


def test_columns_that_grow_to_the_right_do_not_exchange_the_sides() -> None:
    volume = phantom_volume(hematoma_ml=40)
    assert measured(volume, ((volume.hu > 55) & (volume.hu < 80)).astype(np.float32)).side == Side.LEFT
