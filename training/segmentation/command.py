"""The commands `fit segmenter`, `curves` and `export`: parsing and printing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from torch import Tensor

from ichnode.errors import BundleError
from ichnode.inference.bundle import Thresholds, bundle_named
from models.segmenter import Segmenter
from training.data.load import with_truth
from training.data.manifest import DataError, Row, explained, read_manifest
from training.fit.checkpoint import LAST
from training.fit.curves import write_curves
from training.fit.journal import EVERY_STEPS
from training.fit.recipe import Recipe
from training.fit.source import Source
from training.fit.trainer import Diverged, fit
from training.segmentation.export import export_bundle
from training.segmentation.own_data import ManifestSource, MixedSource
from training.segmentation.recipes import RECIPES, RecipeName
from training.segmentation.simulated import TRAINING_SEEDS, SimulatedSource, validation_source
from training.segmentation.system import Heads, Segmentation
from training.segmentation.validation import StyleScores
from training.simulate.styles import HELD_OUT, TRAINING, Style
from training.simulate.template import TEST_DATA, has_anatomy_of

VALIDATION_BATCHES = 24
LAST_PATIENT = 800_000_000  # beyond lie those of the validation


def fit_segmenter(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoints, metrics.jsonl and TensorBoard")],
    recipe: RecipeName = RecipeName.CPU,
    steps: Annotated[int | None, typer.Option(min=1, help="Last step; without it, until the hours are over")] = None,
    decay_steps: Annotated[int, typer.Option(min=0, help="Of --steps, those in which the rate falls to nothing")] = 0,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="At its highest; without it, the recipe's")] = None,
    hours: Annotated[float | None, typer.Option(min=0, help="Stop so long from now, with a checkpoint")] = None,
    start_from: Annotated[str | None, typer.Option(help="Bundle, by name or folder, to begin from")] = None,
    first_patient: Annotated[
        int, typer.Option(min=0, max=LAST_PATIENT, help="Simulated; those of an earlier training are not new to it")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Go on from the last checkpoint in OUT")] = True,
    data: Annotated[Path | None, typer.Option(help="Manifest (JSONL) with masks", exists=True, dir_okay=False)] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the batches, that come from the manifest")] = 0.5,
) -> None:
    """Train the segmenter on simulated patients, and on your own where there is a manifest."""
    if decay_steps > (steps or 0):
        raise typer.BadParameter("needs --steps, and as many at least", param_hint="--decay-steps")
    if start_from and resume and (out / LAST).exists():
        typer.echo(f"goes on from {out / LAST}; what --start-from names is not looked at", err=True)
    system = Segmentation()
    chosen = replace(RECIPES[recipe](system), steps=steps, decay_steps=decay_steps, hours=hours)
    if learning_rate is not None:
        chosen = replace(chosen, learning_rate=learning_rate)
    simulated = SimulatedSource(
        grid=system.grid,
        style=TRAINING,
        first_seed=TRAINING_SEEDS + first_patient,
        device=chosen.device,
        heads=chosen.batch,
    )
    styles: dict[str, Source[Heads]] = {
        style.name: validation_source(system.grid, style, chosen.device) for style in _held_out_styles()
    }
    source: Source[Heads] = simulated
    try:
        if data:
            own, validation = _own_heads(data, system, chosen)
            source = MixedSource(own=own, simulated=simulated, share=share)
            if validation:
                styles["own data"] = validation
        typer.echo(
            f"training on {chosen.device}; a line comes every {EVERY_STEPS} steps, "
            f"a validation of {', '.join(styles)} every {chosen.validate_every_s / 60:.0f} minutes and at the end",
            err=True,
        )
        validate = StyleScores(styles, batches=VALIDATION_BATCHES, device=chosen.device)
        weights = _weights_of(start_from) if start_from else None
        progress = fit(chosen, source, validate, out, fresh=not resume, weights=weights)
    except (DataError, BundleError, Diverged) as problem:
        typer.echo(str(problem), err=True)
        raise typer.Exit(2) from problem
    if progress.styles:  # of several processes the first alone validates
        typer.echo(f"{progress.step} steps; worst style {progress.best:.3f}; checkpoints in {out}")


def _own_heads(data: Path, system: Segmentation, recipe: Recipe) -> tuple[ManifestSource, ManifestSource | None]:
    """Those to train on, and to validate with where there are any. Raises DataError."""
    rows = read_manifest(data)
    train, validation = (with_truth(rows, split) for split in ("train", "validation"))
    if not train:
        raise DataError(f"{data}: no row of split train has a mask or is read as free of hemorrhage")
    typer.echo(f"own heads: {len(train)} to train on, {len(validation)} to validate with", err=True)
    own = ManifestSource(
        rows=train,
        spacing_mm=system.spacing_mm,
        most_planes=system.shape[0],
        device=recipe.device,
        heads=recipe.batch,
    )
    return own, replace(own, rows=_evenly(validation), heads=1, as_they_are=True) if validation else None


def _evenly(rows: Sequence[Row]) -> Sequence[Row]:
    """At most as many as a validation looks at."""
    return [rows[int(place)] for place in np.linspace(0, len(rows) - 1, min(len(rows), VALIDATION_BATCHES))]


def _weights_of(bundle: str) -> Mapping[str, Tensor]:
    """Raises BundleError for a bundle that is none of this network."""
    network = bundle_named(bundle, "cpu").network
    if not isinstance(network, Segmenter):
        raise BundleError(f"{bundle} is no segmenter that training could go on from")
    return network.state_dict()


def _held_out_styles() -> list[Style]:
    """Those whose anatomy is here."""
    here = [style for style in HELD_OUT if has_anatomy_of(style)]
    for absent in (style.name for style in HELD_OUT if style not in here):
        typer.echo(f"the style {absent} is not validated: nothing in {TEST_DATA}", err=True)
    return here


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
    checkpoint: Annotated[Path, typer.Argument(help="best.pt or last.pt of a training", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; its name is the bundle's")],
    version: Annotated[str, typer.Option()],
    card: Annotated[Path, typer.Option(help="Text of CARD.md", exists=True, dir_okay=False)],
    trained_on: Annotated[str, typer.Option(help="On whom, as reports and the summary page say it")],
    reference: Annotated[str, typer.Option()] = "none: see CARD.md",
    found: Annotated[float, typer.Option(help="Hemorrhage from this probability on")] = 0.5,
    strict: Annotated[float, typer.Option(help="That of the lower end of the volume")] = 0.8,
    lenient: Annotated[float, typer.Option(help="That of its upper end")] = 0.2,
    temperature: Annotated[float, typer.Option(help="Logits are divided by it")] = 1.0,
    second_look: Annotated[
        bool, typer.Option("--second-look", help="Look again, flipped and half a voxel off; the mean of both counts")
    ] = False,
    min_volume_ml: Annotated[float, typer.Option(help="Smaller components are dropped")] = 0.1,
    created: Annotated[str | None, typer.Option(help="YYYY-MM-DD; today")] = None,
) -> None:
    """Make a bundle of the averaged weights of a checkpoint."""
    try:
        manifest = export_bundle(
            checkpoint,
            out,
            version=version,
            card=card.read_text("utf-8"),
            trained_on=trained_on,
            thresholds=Thresholds(found=found, strict=strict, lenient=lenient),
            temperature=temperature,
            second_look=second_look,
            min_volume_ml=min_volume_ml,
            created=date.fromisoformat(created) if created else date.today(),
            reference=reference,
        )
    except (BundleError, ValueError) as problem:
        typer.echo(explained(problem), err=True)
        raise typer.Exit(2) from problem
    typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")
