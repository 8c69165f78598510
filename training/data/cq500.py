"""CQ500 (Chilamkurthy et al., Lancet 2018, arXiv 1803.05854): DICOM studies read by three radiologists, without masks.

Folders "CQ500CT<n> CQ500CT<n>" hold the series; reads.csv has `name` (CQ500-CT-<n>) and R1..R3 of each finding. What
two of three saw is present. A study that none of the majorities calls hemorrhage is known to be free of it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.dicom import folder_of, series_in
from training.data.manifest import TYPES, DataError
from training.data.table import Cells, read_table

_READERS = ("r1", "r2", "r3")
_COLUMNS = ("name", *(f"{reader}:{finding.lower()}" for reader in _READERS for finding in ("ICH", *TYPES)))


def drafts(folder: Path) -> Iterator[dict[str, Any] | DataError]:
    """A draft for each line of reads.csv whose study is there, all of them for tests; or why its CT cannot be used."""
    found = {_number(path.name): path for path in (*folder.glob("CQ500CT*"), *folder.glob("*/CQ500CT*"))}
    for cells in read_table(folder / "reads.csv", _COLUMNS):
        number = _number(cells["name"] or "")
        if number not in found:
            continue
        try:
            ct = folder_of(series_in(found[number]))
        except DataError as problem:
            yield problem
        else:
            yield {
                "patient": f"cq500-{number}",
                "study": f"{number}",
                "ct": ct,
                "types": _types(cells),
                "source": "cq500",
                "licence": "CC BY-NC-SA 4.0",
                "split": "test",
            }


def _number(name: str) -> str:
    found = re.match(r"CQ500-?CT-?(\d+)", name)
    return found[1] if found else ""


def _types(cells: Cells) -> tuple[str, ...]:
    def seen(finding: str) -> bool:
        return sum(cells.get(f"{reader}:{finding.lower()}") == "1" for reader in _READERS) >= 2

    types = tuple(name for name in TYPES if seen(name))
    return types or (("any",) if seen("ICH") else ())
