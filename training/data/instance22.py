"""INSTANCE22 (Li et al., arXiv 2301.03281): train_2/data/NNN.nii.gz and train_2/label/NNN.nii.gz, one mask value.

The mask shows hemorrhage of any type, so it trains the union of all types and none of them alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.manifest import split_of


def drafts(folder: Path) -> Iterator[dict[str, Any]]:
    """A draft for each labelled scan; those of the challenge's test have no label and are left out."""
    for mask in sorted(folder.glob("**/label/*.nii.gz")):
        number = mask.name.removesuffix(".nii.gz")
        patient = f"instance22-{number}"
        yield {
            "patient": patient,
            "study": number,
            "ct": mask.parents[1] / "data" / mask.name,
            "mask": mask,
            "label_map": {1: "any"},
            "source": "instance22",
            "licence": "CC BY-NC-ND, signed agreement",
            "split": split_of(patient),
        }
