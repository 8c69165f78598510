"""HemSeg-200/500 (Song et al., arXiv 2405.14559): masks of RSNA scans that have either IPH or IVH, and no other type.

The scan list annotion_file_info*.jsonl has `patient`, `scan_` and `slice_list`; tables with `filename` and `label` say
which type a scan has: 0 IPH, 1 IVH. Slices lie in stage_2_train/ID_<slice>.dcm, masks anywhere below masks/ as
<scan>.nii.gz. The CT of each scan is written to ct/<scan>.nii.gz, unless it is there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.manifest import DataError, split_of
from training.data.rsna import patient_of, write_scan
from training.data.table import read_table

_TYPES = {"0": "IPH", "1": "IVH"}


def drafts(folder: Path) -> Iterator[dict[str, Any] | DataError]:
    """A draft for each listed scan that has a mask, or why its slices make no CT."""
    masks = {mask.name.removesuffix(".nii.gz"): mask for mask in sorted(folder.glob("masks/**/*.nii.gz"))}
    types = _types(folder)
    for scan, (patient, slices) in sorted(_scans(folder).items()):
        if scan not in masks:
            continue
        ct = folder / "ct" / f"{scan}.nii.gz"
        try:
            if not ct.exists():
                write_scan(slices, ct)
        except (DataError, OSError) as problem:
            yield DataError(f"scan {scan}: {problem}")
            continue
        yield {
            "patient": patient,
            "study": scan,
            "ct": ct,
            "mask": masks[scan],
            "label_map": {1: types.get(scan, "any")},
            "source": "hemseg",
            "licence": "none stated; the CT: RSNA, non-commercial",
            "split": split_of(patient),
        }


def _types(folder: Path) -> dict[str, str]:
    tables = [read_table(path, ("filename", "label")) for path in sorted(folder.glob("*.csv"))]
    cells = [(line["filename"], line["label"]) for table in tables for line in table]
    return {name: _TYPES[label] for name, label in cells if name and label in _TYPES}


def _scans(folder: Path) -> dict[str, tuple[str, list[Path]]]:
    """Scan -> its patient and its slices."""
    lists = sorted(folder.glob("annotion_file_info*.jsonl"))
    if not lists:
        raise DataError(f"{folder}: has no annotion_file_info.jsonl")
    scans: dict[str, tuple[str, list[Path]]] = {}
    for path in lists:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            try:
                one = json.loads(line)
                slices = [folder / "stage_2_train" / f"ID_{name}.dcm" for name in one["slice_list"]]
                scans[one["scan_"]] = (patient_of(one["patient"]), slices)
            except (ValueError, KeyError, TypeError) as problem:
                raise DataError(f"{path}, line {number}: is no scan: {problem}") from problem
    return scans
