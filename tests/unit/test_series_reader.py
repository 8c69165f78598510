"""Gate and pixels together: a series becomes one volume."""

from pathlib import Path

import numpy as np
import pytest

from ichnode.domain.reasons import Reason
from ichnode.errors import RefusedSeries
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.slice_positions import tilt_deg
from tests.series_factory import phantom_datasets, series_of, stored_series


def test_slices_are_sorted_along_the_normal_whatever_their_order(tmp_path: Path) -> None:
    datasets = phantom_datasets()
    forth = read_volume(stored_series(datasets, tmp_path))
    back = read_volume(stored_series(datasets[::-1], tmp_path))

    np.testing.assert_array_equal(back.hu, forth.hu)
    assert back.grid.sop_instance_uids == forth.grid.sop_instance_uids
    assert (np.diff(forth.grid.offsets_mm) > 0).all()


def test_a_tilted_head_with_two_thicknesses_and_an_overlap_is_accepted(test_data: Path) -> None:
    volume = read_volume(series_of(sorted((test_data / "ge_head_nct").iterdir())))

    assert volume.hu.shape == (28, 512, 512)
    assert tilt_deg(volume.grid.positions_lps, volume.grid.normal_lps) == pytest.approx(18.5, abs=0.01)
    np.testing.assert_allclose(np.diff(volume.grid.offsets_mm)[[0, 13, 26]], [4.0, 1.08, 7.0], atol=0.005)
    assert volume.hu.min() == -1024
    assert 20 < np.median(volume.hu[20, 200:300, 200:300]) < 40


def test_without_patient_ids_the_names_in_the_files_must_be_one(tmp_path: Path) -> None:
    datasets = phantom_datasets()
    for number, dataset in enumerate(datasets):
        dataset.PatientID, dataset.PatientName = "", "ONE^A" if number else "ONE^A^^"
    assert read_volume(stored_series(datasets, tmp_path)).hu.any()

    datasets[3].PatientName = "OTHER^B"
    with pytest.raises(RefusedSeries, match="no PatientID, 2 different names") as refused:
        read_volume(stored_series(datasets, tmp_path))
    assert refused.value.reason is Reason.MIXED_PATIENTS
