import numpy as np
import pytest

from ichnode.imaging.resample import canonical_grid_for
from tests.training.data_factory import lps_affine, phantom, row_of, write_dicom, write_nifti
from tests.volume_factory import grid_of
from training.data.dicom import series_in
from training.data.load import case, native, resampled
from training.data.manifest import DataError

TRAINING_MM = (5.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A row of a phantom with a hematoma of 30 mL, all NIfTI."""
    folder, truth = tmp_path_factory.mktemp("head"), phantom()
    volume, _ = native(row_of(write_dicom(folder / "dicom", truth.datasets)))
    spacing = volume.grid.pixel_spacing_mm
    affine = lps_affine((5.0, *spacing), tuple(volume.grid.positions_lps[0]))
    return row_of(
        write_nifti(folder / "ct.nii.gz", volume.hu, affine, axes="RAS"),
        mask=write_nifti(folder / "mask.nii.gz", truth.hematoma.astype(np.uint8), affine, axes="RAS"),
        label_map={1: "IPH"},
    )


def test_nifti_and_dicom_give_the_same_volume(head):
    nifti, _ = native(head)
    dicom, _ = native(row_of(head.ct.parent / "dicom"))
    assert np.array_equal(nifti.hu, dicom.hu)
    assert nifti.grid.positions_lps == pytest.approx(dicom.grid.positions_lps, abs=1e-3)


def test_a_case_has_its_hematoma_where_it_is_dense_and_as_large(head):
    found = case(head, TRAINING_MM)
    assert found.hu_dhw.shape == found.labels_dhw.shape == found.grid.shape
    assert found.grid.spacing_mm == TRAINING_MM
    assert np.unique(found.labels_dhw).tolist() == [0, 1]
    assert np.count_nonzero(found.labels_dhw) * 5 / 1000 == pytest.approx(30, rel=0.05)
    assert found.hu_dhw[found.labels_dhw == 1].mean() == pytest.approx(64, abs=5)  # less at its blurred rim


def test_the_hematoma_of_a_case_lies_on_the_patients_left(head):
    found = case(head, TRAINING_MM)
    x = found.grid.origin_lps[0] + np.nonzero(found.labels_dhw)[2]
    assert x.mean() == pytest.approx(30, abs=1)  # LPS: +x is left; the phantom bleeds in the left putamen


def test_touching_labels_leave_no_seam_between_them():
    grid = grid_of((6, 20, 20))
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:5, 4:16, 4:10], labels[1:5, 4:16, 10:16] = 1, 2
    canonical = canonical_grid_for(grid, (2.5, 0.5, 0.5))
    found = resampled(labels, grid, canonical)
    assert set(np.unique(found)) == {0, 1, 2}
    middle = found[5, 20]
    inside = np.flatnonzero(middle)
    assert np.array_equal(inside, np.arange(inside[0], inside[-1] + 1))
    assert np.count_nonzero(found) / 8 == pytest.approx(np.count_nonzero(labels), rel=0.1)


def test_unknown_stays_unknown_on_another_grid(head):
    found = case(row_of(head.ct), TRAINING_MM)
    assert (found.labels_dhw[found.hu_dhw > -1000] == 255).all()


def test_of_several_series_the_one_that_the_daemon_would_analyse_is_read(tmp_path):
    bone, soft = phantom().datasets, phantom().datasets
    for dataset in bone:
        dataset.ConvolutionKernel, dataset.SeriesInstanceUID = "BONE", f"{dataset.SeriesInstanceUID}.2"
        dataset.SOPInstanceUID += ".2"
    write_dicom(tmp_path / "bone", bone)
    write_dicom(tmp_path / "soft", soft)
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert series_in(tmp_path).series_instance_uid == soft[0].SeriesInstanceUID


def test_a_folder_without_ct_says_so(tmp_path):
    with pytest.raises(DataError, match="no CT images"):
        series_in(tmp_path)
