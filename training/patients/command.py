"""The commands `fit` and `export` of the published systems: parsing and printing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from ichnode.errors import BundleError
from training.data.manifest import DataError, explained
from training.fit.command import (
    DecaySteps,
    FirstPatient,
    Hours,
    LearningRate,
    Out,
    Resume,
    Steps,
    held_out_styles,
    problems_told,
    recipe_of,
    train,
)
from training.fit.recipes import RecipeName
from training.fit.validation import StyleScores
from training.patients.export import Description, export
from training.patients.plan import Plan
from training.patients.simulated import validation_of
from training.simulate.cohort import TRAINING_SEEDS, VALIDATION_SEEDS
from training.simulate.styles import TRAINING

_PASSED_OVER = 10_000  # patients: the first ones of the validation chose the checkpoint


def fit_on_patients(plan: Plan) -> Callable[..., None]:
    """The command that trains as planned."""

    def command(
        out: Out,
        recipe: RecipeName = RecipeName.CPU,
        steps: Steps = None,
        decay_steps: DecaySteps = 0,
        learning_rate: LearningRate = None,
        hours: Hours = None,
        first_patient: FirstPatient = 0,
        resume: Resume = True,
    ) -> None:
        chosen = recipe_of(
            plan.system,
            recipe,
            steps=steps,
            decay_steps=decay_steps,
            learning_rate=plan.learning_rate if learning_rate is None else learning_rate,
            hours=hours,
        )
        chosen = replace(chosen, batch=max(chosen.batch, plan.least_batch))
        source = plan.patients(TRAINING_SEEDS + first_patient, chosen.device, chosen.batch)
        styles = {style.name: validation_of(source, style) for style in held_out_styles() if style.scanner == "wide"}
        validate = StyleScores(styles, plan.score, batches=plan.validation_patients, device=chosen.device)
        with problems_told():
            train(chosen, source, validate, tuple(styles), out, resume=resume, start_from=None)

    return command


def export_of(plan: Plan) -> Callable[..., None]:
    """The command that makes a bundle of a checkpoint."""
    way = plan.export
    assert way is not None

    def command(
        checkpoint: Annotated[
            Path, typer.Argument(help="best.pt or last.pt of a training", exists=True, dir_okay=False)
        ],
        out: Annotated[Path, typer.Option(help="Folder of the bundle; its name is the bundle's")],
        version: Annotated[str, typer.Option()],
        card: Annotated[Path, typer.Option(help="Text of CARD.md", exists=True, dir_okay=False)],
        trained_on: Annotated[str, typer.Option(help="On whom, as reports and the summary page say it")],
        patients: Annotated[int, typer.Option(min=20, help="Simulated, to measure its errors on")] = 200,
        created: Annotated[str | None, typer.Option(help="YYYY-MM-DD; today")] = None,
    ) -> None:
        source = validation_of(plan.patients(VALIDATION_SEEDS), TRAINING, _PASSED_OVER)
        try:
            described = Description(
                version=version,
                card=card.read_text("utf-8"),
                trained_on=trained_on,
                created=date.fromisoformat(created) if created else date.today(),
            )
            manifest = export(way, checkpoint, out, source, patients, system=plan.system, described=described)
        except (BundleError, DataError, ValueError) as problem:
            typer.echo(explained(problem), err=True)
            raise typer.Exit(2) from problem
        typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")

    return command
