import numpy as np
import pytest

from ichnode.phantom import IRREGULAR, head_ct
from tests.series_factory import part10, small
from tests.training.data_factory import (
    SHAPE,
    lps_affine,
    mask_of,
    phantom,
    row_of,
    segmentation,
    write_dicom,
    write_head,
    write_nifti,
)
from training.data.load import native
from training.data.manifest import DataError
from training.data.masks import labels_on

SHIFTED, TURNED = lps_affine(origin_lps=(-20.0, -29.5, 40.0)), lps_affine()
TURNED[:3, 0] = (0.8 * np.cos(0.1), 0.8 * np.sin(0.1), 0)
TURNED[:3, 1] = (-0.5 * np.sin(0.1), 0.5 * np.cos(0.1), 0)
OTHER_GRIDS = {
    "shape": (SHAPE[0] - 1, lps_affine()),
    "spacing": (SHAPE[0], lps_affine(spacing_mm=(4.5, 0.5, 0.8))),
    "direction": (SHAPE[0], TURNED),
    "origin": (SHAPE[0], SHIFTED),
}


def labels(tmp_path, mask, label_map, **geometry):
    row = row_of(
        write_head(tmp_path / "ct.nii.gz"),
        mask=write_nifti(tmp_path / "mask.nii.gz", mask, **geometry),
        label_map=label_map,
    )
    return native(row)[1]


def test_values_of_a_mask_become_the_common_labels(tmp_path):
    found = labels(tmp_path, mask_of(1, 2, 7, 9), {1: "EDH", 2: "IPH", 7: "any", 9: "unknown"})
    assert np.array_equal(found, mask_of(5, 1, 6, 255))


def test_what_is_no_hemorrhage_may_have_a_value_of_its_own(tmp_path):
    assert np.array_equal(labels(tmp_path, mask_of(1, 2), {1: "IPH", 2: "none"}), mask_of(1, 0))


def test_a_mask_may_be_stored_along_other_axes_than_its_ct(tmp_path):
    assert np.array_equal(labels(tmp_path, mask_of(1), {1: "SAH"}, axes="RAS"), mask_of(3))


@pytest.mark.parametrize("reason", OTHER_GRIDS)
def test_a_mask_on_another_grid_is_refused_by_what_differs(tmp_path, reason):
    slices, affine = OTHER_GRIDS[reason]
    with pytest.raises(DataError, match=f"mask.nii.gz: {reason}: .* where the CT has"):
        labels(tmp_path, mask_of(1)[:slices], {1: "IPH"}, affine_lps=affine)


def test_a_nifti_mask_cannot_fit_a_ct_with_uneven_slices(tmp_path):
    head = head_ct(hematoma_ml=30, geometry=small(IRREGULAR))
    ct = write_dicom(tmp_path / "ct", head.datasets)
    grid = native(row_of(ct))[0].grid
    even = lps_affine((4.0, *grid.pixel_spacing_mm), tuple(grid.positions_lps[0]))
    mask = write_nifti(tmp_path / "mask.nii", head.hematoma.astype(np.uint8), even)
    with pytest.raises(DataError, match=r"spacing: \(3.594, 3.594, 4\) mm where the CT has \(3.594, 3.594, 7\) mm"):
        labels_on(grid, row_of(ct, mask=mask, label_map={1: "IPH"}))


def test_the_mask_of_one_slice_fits_where_thickness_and_place_are_the_same(tmp_path):
    ct = write_nifti(tmp_path / "ct.nii.gz", mask_of(1)[:1].astype(np.int16))
    mask = write_nifti(tmp_path / "mask.nii.gz", mask_of(1)[:1])
    assert np.array_equal(native(row_of(ct, mask=mask, label_map={1: "IPH"}))[1], mask_of(1)[:1])
    write_nifti(mask, mask_of(1)[:1], lps_affine(spacing_mm=(4.0, 0.5, 0.8)))
    with pytest.raises(DataError, match=r"spacing: .* mm where the CT has"):
        native(row_of(ct, mask=mask, label_map={1: "IPH"}))


def test_a_value_that_the_label_map_does_not_name_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not name the value 2"):
        labels(tmp_path, mask_of(1, 2), {1: "IPH"})


def test_a_mask_of_probabilities_is_refused(tmp_path):
    with pytest.raises(DataError, match="whole numbers"):
        labels(tmp_path, mask_of(1) * np.float32(0.5), {1: "IPH"})


@pytest.mark.parametrize(("types", "value"), [(None, 255), (("IPH",), 255), ((), 0)])
def test_without_a_mask_only_a_reading_free_of_hemorrhage_is_known(tmp_path, types, value):
    row = row_of(write_head(tmp_path / "ct.nii.gz"), types=types)
    assert set(np.unique(native(row)[1])) == {value}


@pytest.fixture
def study(tmp_path):
    """A phantom as DICOM, its hematoma as segment 1 of two, and the row of both."""
    head = phantom()
    sources, hematoma = list(head.datasets), head.hematoma
    beside = np.roll(hematoma, 20, axis=2) & ~hematoma
    ct = write_dicom(tmp_path / "ct", sources)

    def row(sources=sources, masks=(hematoma, beside)):
        (tmp_path / "seg.dcm").write_bytes(part10(segmentation(sources, *masks)))
        return row_of(ct, mask=tmp_path / "seg.dcm", label_map={1: "IPH", 2: "SDH"})

    return row, hematoma, beside


def test_a_dicom_segmentation_fits_its_ct_bit_for_bit(study):
    row, hematoma, beside = study
    volume, found = native(row())
    assert np.array_equal(found, hematoma * 1 + beside * 4)
    assert volume.hu[hematoma].mean() == pytest.approx(64, abs=2)


def test_a_segmentation_of_another_head_is_refused(study):
    row, hematoma, beside = study
    other = list(phantom(hematoma_ml=31).datasets)
    for dataset in other:
        dataset.SOPInstanceUID += ".9"
    with pytest.raises(DataError, match="refers to instances that are not of the CT"):
        native(row(sources=other, masks=(hematoma, beside)))


def test_a_segmentation_that_lies_elsewhere_is_refused(study):
    row, hematoma, beside = study
    moved = list(phantom().datasets)
    for dataset in moved:
        dataset.ImagePositionPatient = [v + 2 for v in dataset.ImagePositionPatient]
    with pytest.raises(DataError, match=r"origin: .* not that of the slice it refers to"):
        native(row(sources=moved, masks=(hematoma, beside)))


def test_a_file_that_is_no_segmentation_is_refused(study, tmp_path):
    row = study[0]()
    (tmp_path / "seg.dcm").write_bytes((tmp_path / "ct" / "0000").read_bytes())
    with pytest.raises(DataError, match="is not a DICOM Segmentation"):
        native(row)
