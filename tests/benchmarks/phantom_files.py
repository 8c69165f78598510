"""The phantom's head in files, made once for a machine and kept in its temporary folder."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from ichnode.phantom import REGULAR, head_ct

_HEAD_MM = 160.0


def phantom_files(count: int, *, rows: int) -> list[Path]:
    """A series of `count` slices of `rows` x `rows` pixels that covers the head, in order of acquisition."""
    folder = Path(tempfile.gettempdir()) / f"ichnode-benchmark-{count}x{rows}"
    if not folder.is_dir():
        making = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
        gap_mm = _HEAD_MM / count
        geometry = replace(
            REGULAR,
            offsets_mm=tuple((number - (count - 1) / 2) * gap_mm for number in range(count)),
            thickness_mm=(gap_mm,) * count,
            rows=rows,
            columns=rows,
        )
        for number, instance in enumerate(head_ct(hematoma_ml=20, geometry=geometry).datasets):
            instance.save_as(making / f"{number:04}.dcm", enforce_file_format=True)
        os.replace(making, folder)
    return sorted(folder.glob("*.dcm"))
