"""The phantom's head in files, made once for a machine and kept in its temporary folder."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset

from ichnode.phantom import REGULAR, head_ct

_HEAD_MM = 160.0


def phantom_files(count: int, *, rows: int, transfer_syntax_uid: str | None = None) -> list[Path]:
    """A series of `count` slices of `rows` x `rows` pixels that covers the head, from the feet up.

    Explicit VR little endian, or compressed to `transfer_syntax_uid`.
    """
    folder = Path(tempfile.gettempdir()) / f"ichnode-benchmark-{count}x{rows}{transfer_syntax_uid or ''}"
    if not folder.is_dir():
        making = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
        for number, instance in enumerate(phantom_study(count, rows=rows)):
            if transfer_syntax_uid:
                instance.compress(transfer_syntax_uid, generate_instance_uid=False)
            instance.save_as(making / f"{number:04}.dcm", enforce_file_format=True)
        making.rename(folder)
    return sorted(folder.glob("*.dcm"))


def phantom_study(count: int, *, rows: int, seed: int = 1) -> Sequence[Dataset]:
    """The same as data sets; another seed is another patient."""
    gap_mm = _HEAD_MM / count
    geometry = replace(
        REGULAR,
        offsets_mm=tuple((number - (count - 1) / 2) * gap_mm for number in range(count)),
        thickness_mm=(gap_mm,) * count,
        rows=rows,
        columns=rows,
    )
    return head_ct(hematoma_ml=20, geometry=geometry, seed=seed).datasets
