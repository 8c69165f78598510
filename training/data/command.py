"""The command `python -m training import`: parse and print only."""

from pathlib import Path
from typing import Annotated

import typer

from training.data.importing import IMPORTERS, sift
from training.data.manifest import DataError, write_manifest


def import_data(
    source: Annotated[str, typer.Argument(help=f"The data set: {', '.join(IMPORTERS)}; docs/data.md has the layouts.")],
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Where the data set was unpacked.")],
    out: Annotated[Path, typer.Option(help="The manifest to write.")] = Path("manifest.jsonl"),
) -> None:
    """Write the manifest of a data set; rows that are not sound are named and left out, with exit code 1."""
    if source not in IMPORTERS:
        raise typer.BadParameter(f"{source} is none of {', '.join(IMPORTERS)}")
    try:
        rows, refused = sift(IMPORTERS[source](folder.absolute()))
        write_manifest(rows, out)
    except (DataError, OSError) as problem:
        typer.echo(f"{problem}", err=True)
        raise typer.Exit(2) from problem
    for one in refused:
        typer.echo(f"row {one.number} {one.study}".rstrip() + f" refused: {one.reason}", err=True)
    typer.echo(f"{len(rows)} rows in {out}, {len(refused)} refused")
    raise typer.Exit(1 if refused else 0)
