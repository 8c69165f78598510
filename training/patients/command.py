"""The commands `fit`, `export` and `evaluate` of the published systems: parsing and printing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ichnode.errors import BundleError
from ichnode.inference.bundle import bundle_named
from training.data.manifest import DataError, explained
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
from training.fit.recipes import RecipeName
from training.fit.validation import StyleScores
from training.patients.evaluation import SIMULATED, Evaluation, evaluated, limited, shown, write_section
from training.patients.export import Description, export
from training.patients.plan import Plan
from training.patients.simulated import Cohort, validation_of
from training.simulate.cohort import EVALUATION_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS
from training.simulate.styles import TRAINING, Style

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
        patients: Annotated[
            int | None, typer.Option(min=1, help="So many, again and again; without it, always new ones")
        ] = None,
        keep_in: Annotated[
            Path | None, typer.Option(help="Folder of those, for other trainings too; OUT/patients", file_okay=False)
        ] = None,
        start_from: StartFrom = None,
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
        cohort = Cohort(patients=patients, folder=keep_in or out / "patients") if patients else None
        source = plan.patients(TRAINING_SEEDS + first_patient, chosen.device, chosen.batch, cohort)
        styles = {style.name: validation_of(source, style) for style in _styles()}
        validate = StyleScores(styles, plan.score, batches=plan.validation_patients, device=chosen.device)
        with problems_told():
            train(chosen, source, validate, tuple(styles), out, resume=resume, start_from=start_from)

    return command


def _styles() -> list[Style]:
    """Held out, of scanners that such patients may have."""
    return [style for style in held_out_styles() if style.scanner == "wide"]


def export_of(plan: Plan) -> Callable[..., None]:
    """The command that makes a bundle of a checkpoint."""

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
        plans = plan.patients(VALIDATION_SEEDS)
        source = validation_of(plans, TRAINING, _PASSED_OVER)
        others = [replace(validation_of(plans, style, _PASSED_OVER), followup=False) for style in _styles()]
        try:
            described = Description(
                version=version,
                card=card.read_text("utf-8"),
                trained_on=trained_on,
                created=date.fromisoformat(created) if created else date.today(),
            )
            manifest = export(
                plan.export, checkpoint, out, source, others, patients, system=plan.system, described=described
            )
        except (BundleError, DataError, OSError, ValueError) as problem:
            typer.echo(explained(problem), err=True)
            raise typer.Exit(2) from problem
        typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")

    return command


def evaluate_of(name: str, plan: Plan) -> Callable[..., None]:
    """The command that measures bundles of that system."""
    way = plan.evaluate

    def command(
        bundle: Annotated[list[str] | None, typer.Option(help="Bundle by name or folder; may be repeated.")] = None,
        patients: Annotated[int, typer.Option(min=20, help="Simulated, that no training saw.")] = 100,
        seed: Annotated[int, typer.Option(min=0, help="Of the patients.")] = 0,
        out: Annotated[Path | None, typer.Option(help="Markdown file to put the tables into", dir_okay=False)] = None,
    ) -> None:
        console, errors = Console(), Console(stderr=True)
        try:
            bundles = {named: bundle_named(named, "cpu", way.kind) for named in bundle or []}
        except BundleError as problem:
            errors.print(str(problem), style="red", markup=False)
            raise typer.Exit(2) from problem
        first_seed = EVALUATION_SEEDS + 100_000 * seed
        source = replace(validation_of(plan.patients(VALIDATION_SEEDS), TRAINING), first_seed=first_seed)
        versions = {f"{each.manifest.name} {each.manifest.version}": each for each in bundles.values()}
        batches = map(source.batch, track(range(patients), "evaluating", console=errors))
        found = evaluated(way, versions, batches, f"{patients} simulated patients from seed {first_seed}")
        console.print(_table(found))
        for limit in found.limits:
            console.print(f"{limit.label}: AUC {limited(limit)}")
        console.print(found.published)
        if out:
            write_section(out, name, found.markdown())

    return command


def _table(found: Evaluation) -> Table:
    table = Table(title=f"{found.title} [95 % interval over patients]")
    table.add_column(SIMULATED)
    for heading in next(iter(found.rows.values())):
        table.add_column(heading, justify="right")
    for name, row in found.rows.items():
        table.add_row(name, *map(shown, row.values()))
    return table
