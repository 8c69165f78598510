"""BHSD and MBH-Seg: RSNA head CT with masks of five hemorrhage types.

BHSD (Wu et al., MLMI 2023, arXiv 2308.11298) has label_192/images/X.nii.gz and label_192/ground truths/X.nii.gz.
MBH-Seg25 has a folder for each scan with image.nii.gz and label_annot_K.nii.gz of several raters; the first is taken.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.manifest import split_of
from training.data.rsna import patient_of

LABEL_MAP = {1: "EDH", 2: "IPH", 3: "IVH", 4: "SAH", 5: "SDH"}


def drafts(folder: Path) -> Iterator[dict[str, Any]]:
    """A draft for each scan in either layout."""
    for ct, mask in (*_bhsd(folder), *_mbh_seg(folder)):
        study = (ct.parent if ct.name == "image.nii.gz" else ct).name.removesuffix(".nii.gz")
        patient = patient_of(study)
        yield {
            "patient": patient,
            "study": study,
            "ct": ct,
            "mask": mask,
            "label_map": LABEL_MAP,
            "source": "bhsd",
            "licence": "CC BY-NC-ND",
            "split": split_of(patient),
        }


def _bhsd(folder: Path) -> Iterator[tuple[Path, Path]]:
    for ct in sorted(folder.glob("**/images/*.nii.gz")):
        yield ct, ct.parents[1] / "ground truths" / ct.name


def _mbh_seg(folder: Path) -> Iterator[tuple[Path, Path]]:
    for ct in sorted(folder.glob("**/image.nii.gz")):
        raters = sorted(ct.parent.glob("label_annot_*.nii.gz"))
        yield ct, raters[0] if raters else ct.parent / "label_annot_1.nii.gz"
