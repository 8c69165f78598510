"""The commands `fit segmenter` and `export segmenter`: parsing and printing."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from ichnode.errors import BundleError
from ichnode.inference.manifest import Thresholds
from training.data.load import with_truth
from training.data.manifest import DataError, explained, read_manifest
from training.fit.command import (
    DecaySteps,
    FirstPatient,
    Hours,
    LearningRate,
    Out,
    Resume,
    StartFrom,
    Steps,
    held_out_styles,
    problems_told,
    recipe_of,
    train,
)
from training.fit.group import processes
from training.fit.learned_from import LearnedFrom
from training.fit.mixed import MixedSource
from training.fit.recipe import Recipe
from training.fit.recipes import RECIPES, RecipeName
from training.fit.source import Source
from training.fit.validation import StyleScores, evenly
from training.segmentation.export import export_bundle
from training.segmentation.own_data import ManifestSource
from training.segmentation.simulated import SimulatedSource, validation_source
from training.segmentation.system import Heads, SegmenterSystem
from training.segmentation.validation import dice_of
from training.simulate.cohort import TRAINING_SEEDS
from training.simulate.styles import TRAINING

VALIDATION_BATCHES = 24


def fit_segmenter(
    out: Out,
    recipe: RecipeName = RecipeName.CPU,
    steps: Steps = None,
    decay_steps: DecaySteps = 0,
    learning_rate: LearningRate = None,
    hours: Hours = None,
    start_from: StartFrom = None,
    first_patient: FirstPatient = 0,
    resume: Resume = True,
    data: Annotated[Path | None, typer.Option(help="Manifest (JSONL) with masks", exists=True, dir_okay=False)] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the batches, that come from the manifest")] = 0.5,
) -> None:
    """Train the segmenter on simulated patients, and on your own where there is a manifest."""
    system = SegmenterSystem()
    chosen = recipe_of(
        RECIPES[recipe](system), steps=steps, decay_steps=decay_steps, learning_rate=learning_rate, hours=hours
    )
    simulated = SimulatedSource(
        grid=system.grid,
        style=TRAINING,
        first_seed=TRAINING_SEEDS + first_patient,
        device=chosen.device,
        heads=chosen.batch,
    )
    styles: dict[str, Source[Heads]] = {
        style.name: validation_source(system.grid, style, chosen.device) for style in held_out_styles()
    }
    source: Source[Heads] = simulated
    with problems_told():
        if data:
            chosen = replace(chosen, own=LearnedFrom.of(data))
            own, validation = _own_heads(data, system, chosen)
            source = MixedSource(own=own, simulated=simulated, share=share, processes=processes(chosen.backend))
            if validation:
                styles["own data"] = validation
        validate = StyleScores(styles, dice_of, batches=VALIDATION_BATCHES, device=chosen.device)
        train(chosen, source, validate, tuple(styles), out, resume=resume, start_from=start_from)


def _own_heads(data: Path, system: SegmenterSystem, recipe: Recipe) -> tuple[ManifestSource, ManifestSource | None]:
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
    return own, replace(
        own, rows=evenly(validation, VALIDATION_BATCHES), heads=1, as_they_are=True
    ) if validation else None


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
    except (BundleError, DataError, ValueError) as problem:
        typer.echo(explained(problem), err=True)
        raise typer.Exit(2) from problem
    typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")
