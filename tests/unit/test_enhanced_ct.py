"""Enhanced CT: frames count as slices do, and their functional groups are read like headers."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ichnode.domain.reasons import Reason
from ichnode.imaging.series_gate import acquisition_grid
from ichnode.imaging.series_reader import read_volume
from tests.series_factory import (
    COMPRESSED,
    NATIVE,
    Datasets,
    alter,
    enhanced_ct,
    part10,
    refusal_of,
    series_of,
    stored_series,
    without,
)


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_enhanced_ct_gives_one_slice_a_frame(
    syntax: str, datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    shuffled = [datasets[i] for i in np.random.default_rng(1).permutation(len(datasets))]
    single = read_volume(stored_series(datasets, tmp_path))

    multi = read_volume(stored_series([enhanced_ct(shuffled)], tmp_path, syntax))

    np.testing.assert_array_equal(multi.hu, expected_hu)
    np.testing.assert_allclose(multi.grid.positions_lps, single.grid.positions_lps)
    assert sorted(multi.grid.frame_numbers) == list(range(1, len(datasets) + 1))
    assert shuffled[multi.grid.frame_numbers[0] - 1].InstanceNumber == 1
    assert len(set(multi.grid.sop_instance_uids)) == 1


def test_a_value_of_the_frame_goes_before_the_shared_one(datasets: Datasets, tmp_path: Path) -> None:
    multi = enhanced_ct(datasets)
    turned = enhanced_ct(alter(ImageOrientationPatient=[0, 1, 0, -1, 0, 0])(datasets[:1]))
    for frame in multi.PerFrameFunctionalGroupsSequence:
        frame.PlaneOrientationSequence = turned.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence

    grid = acquisition_grid(stored_series([multi], tmp_path))

    np.testing.assert_array_equal(grid.row_direction_lps, [0, 1, 0])


def test_a_missing_frame_is_refused_like_a_missing_slice(datasets: Datasets, tmp_path: Path) -> None:
    series = stored_series([enhanced_ct(without(10)(datasets))], tmp_path)

    assert refusal_of(acquisition_grid, series).reason == Reason.MISSING_SLICES


def test_functional_groups_that_would_exhaust_the_reader_are_refused(datasets: Datasets, tmp_path: Path) -> None:
    """Written as UN, where a scan sees bytes and pydicom unpacks sequence after sequence."""
    path = tmp_path / "enhanced"
    item = b"\xfe\xff\x00\xe0" + b"\xff" * 4
    nested = item + (b"\x08\x00\x40\x11" + b"\xff" * 4 + item) * 2000
    shared = b"\x00\x52\x29\x92"
    head, tail = part10(enhanced_ct(datasets)).split(shared + b"SQ")
    after = 6 + int.from_bytes(tail[2:6], "little")
    path.write_bytes(head + shared + b"UN\0\0" + len(nested).to_bytes(4, "little") + nested + tail[after:])

    refusal = refusal_of(acquisition_grid, series_of([path]))

    assert refusal.reason == Reason.BAD_GEOMETRY
    assert "functional groups cannot be read" in refusal.detail


def test_frames_without_functional_groups_are_refused(datasets: Datasets, tmp_path: Path) -> None:
    multi = enhanced_ct(datasets)
    multi.PerFrameFunctionalGroupsSequence = multi.PerFrameFunctionalGroupsSequence[:-1]

    assert refusal_of(acquisition_grid, stored_series([multi], tmp_path)).reason == Reason.BAD_GEOMETRY


def test_a_deflated_file_altered_since_its_receipt_is_refused(datasets: Datasets, tmp_path: Path) -> None:
    series = stored_series([enhanced_ct(datasets)], tmp_path, DeflatedExplicitVRLittleEndian)
    path = Path(series.instances[0].file)
    path.write_bytes(path.read_bytes()[:-100])

    assert refusal_of(acquisition_grid, series).reason == Reason.BAD_GEOMETRY
