from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tests.training.data_factory import ORIGIN_LPS, SHAPE, SPACING_MM, lps_affine, write_head, write_nifti
from training.data.manifest import DataError
from training.data.nifti import nifti_volume

NUMBERED = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS", "RPI", "ASR", "IPL"])
def test_a_voxel_lies_at_its_place_whichever_way_the_file_counts(tmp_path, axes):
    volume = nifti_volume(write_nifti(tmp_path / "ct.nii.gz", NUMBERED, axes=axes))
    assert np.array_equal(volume.hu, NUMBERED)
    assert volume.grid.shape == SHAPE
    assert volume.grid.positions_lps[0] == pytest.approx(ORIGIN_LPS)
    assert volume.grid.pixel_spacing_mm == pytest.approx(SPACING_MM[1:])
    assert volume.grid.offsets_mm == pytest.approx(40 + 5.0 * np.arange(SHAPE[0]))


def test_an_oblique_head_lies_where_simpleitk_puts_it(tmp_path):
    angle = np.radians(12)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = lps_affine()
    affine[:3, :3] = turn @ affine[:3, :3]
    path = write_nifti(tmp_path / "ct.nii.gz", NUMBERED, affine, axes="RAS")
    volume, image = nifti_volume(path), SimpleITK.ReadImage(str(path))
    for slice_, row, column in [(0, 0, 0), (3, 7, 2), (9, 11, 13)]:
        grid = volume.grid
        place = (
            grid.positions_lps[slice_]
            + row * grid.pixel_spacing_mm[0] * grid.column_direction_lps
            + column * grid.pixel_spacing_mm[1] * grid.row_direction_lps
        )
        index = image.TransformPhysicalPointToIndex(place.tolist())
        assert image[index] == volume.hu[slice_, row, column]


def test_a_tilted_gantry_comes_out_as_slice_origins_that_wander(tmp_path):
    affine = lps_affine()
    affine[1, 2] = 1.5  # each slice lies 1.5 mm further back
    grid = nifti_volume(write_nifti(tmp_path / "ct.nii.gz", NUMBERED, affine, axes="RAS")).grid
    assert np.diff(grid.positions_lps, axis=0) == pytest.approx(np.tile([0, 1.5, 5.0], (SHAPE[0] - 1, 1)))
    assert grid.normal_lps == pytest.approx([0, 0, 1])
    assert grid.slice_thickness_mm == pytest.approx(np.full(SHAPE[0], 5.0))


def test_a_file_that_was_cut_is_an_error(tmp_path):
    path = write_nifti(tmp_path / "ct.nii", NUMBERED)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match="damaged"):
        nifti_volume(path)


def sheared_in_plane(path: Path) -> Path:
    affine = lps_affine()
    affine[0, 1] = 0.3
    return write_nifti(path, NUMBERED, affine)


def without_space(path: Path) -> Path:
    content = bytearray(write_nifti(path, NUMBERED).read_bytes())
    content[280:296] = bytes(16)  # srow_x of the NIfTI-1 header
    path.write_bytes(content)
    return path


def cut_off(path: Path) -> Path:
    zipped = write_nifti(path.with_suffix(".nii.gz"), NUMBERED)
    zipped.write_bytes(zipped.read_bytes()[:2000])
    return zipped


REFUSED = {
    "is not a NIfTI volume": lambda path: write_nifti(path, NUMBERED[:1, :1]),
    "right angles": sheared_in_plane,
    "spans no space": without_space,
    "cannot be read": cut_off,
    "not numbers": lambda path: write_nifti(path, np.full(SHAPE, np.nan, np.float32)),
    "is not NIfTI": lambda path: path.write_bytes(b"text") and path,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_ct_volume_is_refused_with_its_reason(tmp_path, reason):
    with pytest.raises(DataError, match=reason):
        nifti_volume(REFUSED[reason](tmp_path / "ct.nii"))


def test_one_slice_is_a_volume_too(tmp_path):
    volume = nifti_volume(write_nifti(tmp_path / "ct.nii.gz", NUMBERED[:1], axes="RAS"))
    assert np.array_equal(volume.hu, NUMBERED[:1])
    assert volume.grid.voxel_ml == pytest.approx([5.0 * 0.5 * 0.8 / 1000])


def test_colours_are_no_values(tmp_path):
    image = nib.Nifti1Image(np.zeros(SHAPE[::-1], np.dtype([(c, "u1") for c in "RGB"])), np.eye(4))
    nib.save(image, tmp_path / "mask.nii")
    with pytest.raises(DataError, match="cannot be read"):
        nifti_volume(tmp_path / "mask.nii")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"nothing\.nii"):
        nifti_volume(tmp_path / "nothing.nii")


def test_made_up_instance_uids_differ_between_slices(tmp_path):
    assert len(set(nifti_volume(write_head(tmp_path / "ct.nii")).grid.sop_instance_uids)) == SHAPE[0]
