"""The commands `fit`, `export` and `evaluate` of the published systems: parsing and printing."""

from collections.abc import Callable, Sequence
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
from training.fit.checkpoint import LAST
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
from training.patients.evaluation import (
    SIMULATED,
    Contender,
    Evaluation,
    Rows,
    evaluated,
    limited,
    shown,
    write_section,
)
from training.patients.export import Description, export, trained
from training.patients.plan import Plan
from training.patients.simulated import Cohort, validation_of
from training.simulate.cohort import EVALUATION_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS
from training.simulate.styles import TRAINING, Style

_PASSED_OVER = 10_000  # patients: the first ones of the validation chose the checkpoint


def fit_on_patients(whole: Plan) -> Callable[..., None]:
    """The command that trains as planned, or one of the variants."""

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
        variant: Annotated[str | None, typer.Option(help=f"Instead: {', '.join(whole.variants)}")] = None,
    ) -> None:
        if variant is not None and variant not in whole.variants:
            raise typer.BadParameter(f"one of {', '.join(whole.variants)}", param_hint="--variant")
        plan = whole.variants[variant] if variant else whole
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


def export_of(whole: Plan) -> Callable[..., None]:
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
        try:
            made = trained(whole.export, checkpoint)
            plans = whole.on(made.system.shape, made.system.spacing_mm).patients(VALIDATION_SEEDS)
            source = validation_of(plans, TRAINING, _PASSED_OVER)
            others = [replace(validation_of(plans, style, _PASSED_OVER), followup=False) for style in _styles()]
            described = Description(
                version=version,
                card=card.read_text("utf-8"),
                trained_on=trained_on,
                created=date.fromisoformat(created) if created else date.today(),
            )
            manifest = export(whole.export, made, out, source, others, patients, described=described)
        except (BundleError, DataError, OSError, ValueError) as problem:
            typer.echo(explained(problem), err=True)
            raise typer.Exit(2) from problem
        typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")

    return command


def evaluate_of(name: str, whole: Plan) -> Callable[..., None]:
    """The command that measures bundles and trainings of that system."""
    way = whole.evaluate

    def command(
        bundle: Annotated[list[str] | None, typer.Option(help="Bundle by name or folder; may be repeated.")] = None,
        run: Annotated[
            list[str] | None, typer.Option(help="NAME=FOLDER of a training, of a variant too; may be repeated.")
        ] = None,
        patients: Annotated[int, typer.Option(min=20, help="Simulated, that no training saw.")] = 100,
        seed: Annotated[int, typer.Option(min=0, help="Of the patients.")] = 0,
        out: Annotated[Path | None, typer.Option(help="Markdown file to put the tables into", dir_okay=False)] = None,
    ) -> None:
        console, errors = Console(), Console(stderr=True)
        try:
            contenders = _bundles(whole, bundle or []) | _runs(whole, run or [])
        except (BundleError, DataError, OSError) as problem:
            errors.print(str(problem), style="red", markup=False)
            raise typer.Exit(2) from problem
        first_seed = EVALUATION_SEEDS + 100_000 * seed
        rows: Rows = {}
        for plan in {id(each): each for each in (whole, *(plan for plan, _ in contenders.values()))}.values():
            source = replace(validation_of(plan.patients(VALIDATION_SEEDS), TRAINING), first_seed=first_seed)
            batches = map(source.batch, track(range(patients), "evaluating", console=errors))
            here = {label: contender for label, (of, contender) in contenders.items() if of is plan}
            rows |= way.rows(here, batches, plan.system) | rows
        rows = {label: rows[label] for label in sorted(rows, key=lambda label: label not in contenders)}
        found = evaluated(way, rows, f"{patients} simulated patients from seed {first_seed}")
        console.print(_table(found))
        for limit in found.limits:
            console.print(f"{limit.label}: AUC {limited(limit)}")
        console.print(found.published)
        if out:
            write_section(out, name, found.markdown())

    return command


def _bundles(whole: Plan, names: Sequence[str]) -> dict[str, tuple[Plan, Contender]]:
    """Each with the plan that shows patients as it reads them. Raises BundleError and DataError."""
    found = {}
    for named in names:
        bundle = bundle_named(named, "cpu", whole.evaluate.kind)
        plan = whole.on(bundle.manifest.shape, bundle.manifest.grid_spacing_mm)
        contender = Contender(network=bundle.network, system=plan.system, manifest=bundle.manifest)
        found[f"{bundle.manifest.name} {bundle.manifest.version}"] = plan, contender
    return found


def _runs(whole: Plan, named: Sequence[str]) -> dict[str, tuple[Plan, Contender]]:
    """The same of trainings. Raises DataError and OSError."""
    found = {}
    for each in named:
        name, is_named, folder = each.rpartition("=")
        made = trained(whole.export, Path(folder) / LAST)
        contender = Contender(network=made.network, system=made.system)
        found[name if is_named else Path(folder).name] = whole.on(made.system.shape, made.system.spacing_mm), contender
    return found


def _table(found: Evaluation) -> Table:
    table = Table(title=f"{found.title} [95 % interval over patients]")
    table.add_column(SIMULATED)
    for heading in next(iter(found.rows.values())):
        table.add_column(heading, justify="right")
    for name, row in found.rows.items():
        table.add_row(name, *map(shown, row.values()))
    return table
