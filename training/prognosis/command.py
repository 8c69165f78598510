"""The command `import-weights prognosis`: parsing and printing."""

from pathlib import Path
from typing import Annotated

import typer

from training.data.manifest import DataError
from training.prognosis.authors import import_authors_weights


def import_prognosis_weights(
    file: Annotated[Path, typer.Argument(help="State dictionary of the authors", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of a training, for `export prognosis` and `evaluate prognosis`")],
    anterior_last: Annotated[
        bool, typer.Option(help="They were learned from rows that go from back to front, or from front to back")
    ] = True,
) -> None:
    """Take over the weights of system B that its authors released; nothing else in the file is run."""
    try:
        digest = import_authors_weights(file, out, anterior_last=anterior_last)
    except (DataError, OSError) as problem:
        typer.echo(str(problem), err=True)
        raise typer.Exit(2) from problem
    typer.echo(f"{file}: SHA-256 {digest}; now `python -m training export prognosis {out}/last.pt ...`")
