"""The command `python -m training evaluate segmenter`: parse and print only."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from ichnode.errors import InferenceError
from ichnode.inference.predictor import choose_device
from training.data.manifest import DataError, read_manifest
from training.evaluate.contenders import contenders
from training.evaluate.files import write_csv, write_json
from training.evaluate.from_manifest import manifest_cases, with_truth
from training.evaluate.plots import write_plots
from training.evaluate.report import reports
from training.evaluate.score import scores
from training.evaluate.tables import tables

_WIDE = 220  # piped tables keep their columns


def segmenter(
    data: Annotated[Path, typer.Option(help="Manifest (JSONL) with masks.", exists=True, dir_okay=False)],
    bundle: Annotated[list[str] | None, typer.Option(help="Bundle by name or folder; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.json, cases.csv and the plots.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split; otherwise all that is not train.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:0.")] = "auto",
) -> None:
    """Bundles side by side, and beside trivial ways, on patients with known truth. RESEARCH USE ONLY."""
    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = _WIDE
    refused: dict[str, str] = {}
    try:
        rows = read_manifest(data)
        chosen = list(islice(with_truth(rows, split), limit))
        compared = contenders(bundle or [], choose_device(device))
        cases = track(manifest_cases(chosen, refused), "evaluating", total=len(chosen), console=errors)
        found = reports(list(scores(cases, compared)))
    except (DataError, InferenceError) as problem:
        errors.print(str(problem), style="red", markup=False)
        raise typer.Exit(2) from problem
    for name, reason in refused.items():
        errors.print(f"{name} refused: {reason}", markup=False)
    if not found:
        errors.print(f"{data}: none of {len(rows)} rows has a truth to evaluate on")
        raise typer.Exit(2)
    console.print(tables(found))
    console.print(f"{len(chosen)} of {len(rows)} rows, {len(refused)} of them refused")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_json(found, refused, out / "report.json")
        write_csv(found, out / "cases.csv")
        write_plots(found, out)
        console.print(f"written to {out}")
