"""The commands `fit segmenter`, `curves` and `export`: parsing and printing."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from ichnode.inference.bundle import Thresholds
from training.fit.curves import write_curves
from training.fit.export import export_bundle
from training.fit.recipes import RECIPES, RecipeName
from training.fit.trainer import fit
from training.fit.validation import StyleScores
from training.simulate.source import VALIDATION_SEEDS, SimulatedSource
from training.simulate.styles import HELD_OUT, TRAINING

VALIDATION_BATCHES = 24


def fit_segmenter(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoints, metrics.jsonl and TensorBoard")],
    recipe: RecipeName = RecipeName.CPU,
    steps: Annotated[int | None, typer.Option(help="Last step; without it, until the hours are over")] = None,
    decay_steps: Annotated[int, typer.Option(help="Of these, how many the learning rate falls to nothing in")] = 0,
    hours: Annotated[float | None, typer.Option(help="Stop after this time, with a checkpoint")] = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Go on from the last checkpoint in OUT")] = True,
) -> None:
    """Train the segmenter on simulated patients."""
    chosen = replace(RECIPES[recipe](), steps=steps, decay_steps=decay_steps, hours=hours)
    source = SimulatedSource(grid=chosen.grid, style=TRAINING, device=chosen.device, heads=chosen.batch)
    styles = {
        style.name: SimulatedSource(
            grid=chosen.grid, style=style, first_seed=VALIDATION_SEEDS, device=chosen.device, showings=1, recent=0
        )
        for style in HELD_OUT
    }
    validate = StyleScores(styles, batches=VALIDATION_BATCHES, device=chosen.device)
    progress = fit(chosen, source, validate, out, fresh=not resume)
    typer.echo(f"{progress.step} steps; worst style {progress.best:.3f}; checkpoints in {out}")


def curves(
    runs: Annotated[list[Path], typer.Argument(help="Folders of the training, in order", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="The picture, PNG")],
) -> None:
    """Draw loss, learning rate and validation of a training."""
    try:
        write_curves(runs, out)
    except FileNotFoundError as problem:
        raise typer.BadParameter(f"{problem.filename}: no such file") from problem
    typer.echo(f"written to {out}")


def export_segmenter(
    checkpoint: Path,
    out: Annotated[Path, typer.Option(help="Folder of the bundle; its name is the bundle's")],
    version: Annotated[str, typer.Option()],
    card: Annotated[Path, typer.Option(help="Text of CARD.md")],
    trained_on: Annotated[str, typer.Option()] = "simulated patients",
    reference: Annotated[str, typer.Option()] = "none: see CARD.md",
    found: float = 0.5,
    strict: float = 0.8,
    lenient: float = 0.2,
    temperature: Annotated[float, typer.Option(help="Logits are divided by it")] = 1.0,
    min_volume_ml: Annotated[float, typer.Option(help="Smaller components are dropped")] = 0.1,
    created: Annotated[str | None, typer.Option(help="YYYY-MM-DD; today")] = None,
) -> None:
    """Make a bundle of the averaged weights of a checkpoint."""
    manifest = export_bundle(
        checkpoint,
        out,
        version=version,
        card=card.read_text("utf-8"),
        trained_on=trained_on,
        thresholds=Thresholds(found=found, strict=strict, lenient=lenient),
        temperature=temperature,
        min_volume_ml=min_volume_ml,
        created=date.fromisoformat(created) if created else date.today(),
        reference=reference,
    )
    typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")
