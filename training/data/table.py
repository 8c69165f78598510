"""Tables: CSV files as rows of text, column names in lower case without line breaks, empty cells as None."""

import csv
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

from training.data.manifest import DataError

Cells = dict[str, str | None]


def read_table(path: Path, columns: Iterable[str]) -> list[Cells]:
    """Every line below the header; cells that lack at its end are empty.

    Raises DataError where the file or one of `columns` lacks, or the text is not UTF-8, and OSError.
    """
    if not path.exists():
        raise DataError(f"{path}: is missing; docs/data.md says what the folder has to hold")
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            lines = list(csv.reader(file))
        except UnicodeDecodeError as problem:
            raise DataError(f"{path}: is not UTF-8 text (in Excel: CSV UTF-8): {problem}") from problem
    names = [" ".join(name.lower().split()) for name in (lines[0] if lines else [])]
    missing = sorted(set(columns) - set(names))
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(missing)}, but {', '.join(filter(None, names)) or 'nothing'}"
        )
    return [
        {name: cell.strip() or None for name, cell in zip_longest(names, line[: len(names)], fillvalue="") if name}
        for line in lines[1:]
        if any(cell.strip() for cell in line)
    ]
