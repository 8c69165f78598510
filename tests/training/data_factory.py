"""Made-up files for the tests of the importers: small heads as NIfTI and DICOM, with masks and tables."""

from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from ichnode.phantom import REGULAR, Phantom, head_ct
from tests.series_factory import small, stored_series
from training.data.load import native
from training.data.manifest import Row

SHAPE = (10, 12, 14)  # slice, row, column
SPACING_MM = (5.0, 0.5, 0.8)
ORIGIN_LPS = (-20.0, -30.0, 40.0)


def lps_affine(
    spacing_mm: tuple[float, float, float] = SPACING_MM, origin_lps: tuple[float, float, float] = ORIGIN_LPS
) -> np.ndarray:
    """From (column, row, slice) to LPS mm."""
    affine = np.diag([*spacing_mm[::-1], 1.0])
    affine[:3, 3] = origin_lps
    return affine


def write_nifti(path: Path, values: np.ndarray, affine_lps: np.ndarray | None = None, axes: str = "LPS") -> Path:
    """(slice, row, column) `values`, stored along `axes`; NIfTI itself counts millimetres in RAS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ (lps_affine() if affine_lps is None else affine_lps)
    image = nib.Nifti1Image(values.transpose(2, 1, 0), affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axes)))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(turn), path)
    return path


def write_head(path: Path, **geometry: Any) -> Path:
    """A CT of no particular head."""
    hu = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype(np.int16)
    return write_nifti(path, hu, **geometry)


def mask_of(*values: int) -> np.ndarray:
    """A block of 2 x 3 x 4 voxels of each value, one after the other along the slices."""
    mask = np.zeros(SHAPE, np.uint8)
    for index, value in enumerate(values):
        mask[2 * index : 2 * index + 2, 2:5, 3:7] = value
    return mask


BLOCK_ML = 2 * 3 * 4 * 5.0 * 0.5 * 0.8 / 1000


def write_table(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8-sig")
    return path


def phantom(hematoma_ml: float = 30.0) -> Phantom:
    return head_ct(hematoma_ml=hematoma_ml, geometry=small(REGULAR))


def write_dicom(folder: Path, datasets: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    stored_series(list(datasets), folder)
    return folder


def segmentation(sources: list[Dataset], *masks: np.ndarray) -> Dataset:
    """A DICOM Segmentation with a segment for each mask (slice, row, column)."""
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"region {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Hemorrhage,
            algorithm_type="MANUAL",
        )
        for number in range(1, len(masks) + 1)
    ]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=np.stack(masks, axis=-1).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
    )


def phantom_row(folder: Path, ml: float, **fields: Any) -> Row:
    """A head with a hematoma of known volume, as DICOM, and its mask."""
    truth = phantom(ml)
    ct = write_dicom(folder / "dicom", truth.datasets)
    grid = native(row_of(ct))[0].grid
    affine = lps_affine((5.0, *grid.pixel_spacing_mm), tuple(grid.positions_lps[0]))
    mask = write_nifti(folder / "mask.nii.gz", truth.hematoma.astype(np.uint8), affine)
    return row_of(ct, mask=mask, label_map={1: "IPH"}, **fields)


def row_of(ct: Path, **fields: Any) -> Row:
    known = {"patient": "p", "study": "s", "ct": ct, "source": "tests", "licence": "none", "split": "train"}
    return Row.model_validate(known | fields)
