"""The commands `evaluate segmenter` and `calibrate segmenter`: parse and print only."""

from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from ichnode.errors import InferenceError
from ichnode.inference.bundle import bundle_named
from ichnode.inference.manifest import SegmenterManifest
from ichnode.inference.predictor import choose_device
from training.data.load import with_truth
from training.data.manifest import SPLITS, TYPES, DataError, read_manifest
from training.evaluate.contenders import contenders
from training.evaluate.files import write_csv, write_json
from training.evaluate.from_manifest import manifest_cases
from training.evaluate.held_out import STYLES, cases, is_at_hand
from training.evaluate.plots import write_plots
from training.evaluate.report import reports
from training.evaluate.score import scores
from training.evaluate.tables import tables
from training.evaluate.temperature import temperature_of
from training.segmentation.simulated import validation_source
from training.segmentation.system import SegmenterSystem
from training.simulate.styles import TRAINING
from training.simulate.template import TEST_DATA

_WIDE = 220  # piped tables keep their columns


def segmenter(
    data: Annotated[Path | None, typer.Option(help="Manifest (JSONL) with masks.", exists=True, dir_okay=False)] = None,
    held_out: Annotated[
        int, typer.Option(min=0, max=100, help="Also so many simulated patients of each held-out style.")
    ] = 0,
    style: Annotated[list[str] | None, typer.Option(help=f"Of these only: {', '.join(STYLES)}.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the held-out patients.")] = 0,
    bundle: Annotated[list[str] | None, typer.Option(help="Bundle by name or folder; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.json, cases.csv and the plots.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    split: Annotated[
        str | None, typer.Option(help=f"Only one of {', '.join(SPLITS)}; otherwise all that is not train.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:0.")] = "auto",
) -> None:
    """Bundles side by side, and beside trivial ways, on patients with known truth. RESEARCH USE ONLY."""
    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = _WIDE
    if unknown := set(style or []) - set(STYLES):
        raise typer.BadParameter(f"{', '.join(unknown)}: none of {', '.join(STYLES)}", param_hint="--style")
    if style and not held_out:
        raise typer.BadParameter("needs --held-out with a number of patients", param_hint="--style")
    if split is not None and split not in SPLITS:
        raise typer.BadParameter(f"{split} is none of {', '.join(SPLITS)}", param_hint="--split")
    styles = _at_hand(style, errors) if held_out else []
    refused: dict[str, str] = {}
    try:
        rows = read_manifest(data) if data else ()
        chosen = list(islice(with_truth(rows, split), limit))
        simulated = chain.from_iterable(cases(each, held_out, seed) for each in styles)
        compared = contenders(bundle or [], choose_device(device))
        every = track(chain(manifest_cases(chosen, refused), simulated), "evaluating", console=errors)
        found = reports(list(scores(every, compared)))
    except (DataError, InferenceError, FileNotFoundError) as problem:
        errors.print(str(problem), style="red", markup=False)
        raise typer.Exit(2) from problem
    for name, reason in refused.items():
        errors.print(f"{name} refused: {reason}", markup=False)
    if not found:
        errors.print(f"nothing to evaluate: none of {len(rows)} rows has a truth, and --held-out is {held_out}")
        raise typer.Exit(2)
    console.print(tables(found))
    if data:
        console.print(f"{len(chosen)} of {len(rows)} rows, {len(refused)} of them refused")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_json(found, refused, out / "report.json")
        write_csv(found, out / "cases.csv")
        write_plots(found, out)
        console.print(f"written to {out}")


def _at_hand(wanted: list[str] | None, errors: Console) -> list[str]:
    """The wanted styles, or all whose data are here. Raises Exit where a wanted one's are not."""
    styles = wanted or list(STYLES)
    absent = [each for each in styles if not is_at_hand(each)]
    if absent:
        errors.print(f"{', '.join(absent)}: not evaluated, there is nothing in {TEST_DATA}", markup=False)
    if absent and wanted:
        raise typer.Exit(2)
    return [each for each in styles if each not in absent]


def calibrate_segmenter(
    bundle: Annotated[str, typer.Argument(help="Bundle by name or folder.")],
    heads: Annotated[int, typer.Option(min=1, help="Simulated heads to look at.")] = 24,
) -> None:
    """Print the temperature by which a bundle's logits should be divided, on simulated validation heads."""
    try:
        looked_at = bundle_named(bundle, "cpu", SegmenterManifest)
        if looked_at.manifest.family != "neural network":
            raise typer.BadParameter(f"{looked_at.manifest.name} has no logits")
        if looked_at.manifest.classes != TYPES:
            raise typer.BadParameter(f"{looked_at.manifest.name} does not tell {', '.join(TYPES)} apart")
        grid = SegmenterSystem().on(looked_at.manifest.grid_spacing_mm).grid
        found = temperature_of(looked_at, validation_source(grid, TRAINING), heads)
    except InferenceError as problem:
        typer.echo(str(problem), err=True)
        raise typer.Exit(2) from problem
    typer.echo(f"temperature {found:.3f}, on top of the bundle's own; export again with --temperature")
