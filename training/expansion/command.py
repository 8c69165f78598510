"""The commands `export expansion` and `evaluate expansion`: parsing and printing."""

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
from ichnode.inference.manifest import ExpansionManifest
from training.data.manifest import DataError, explained
from training.expansion.evaluate import (
    AS_IT_WAS,
    ORACLE,
    PUBLISHED,
    Contender,
    as_it_was,
    cases_of,
    dilated_to,
    figures,
    of_bundle,
)
from training.expansion.export import export_expansion
from training.expansion.system import ExpansionSystem
from training.patients.plans import PLANS
from training.patients.simulated import validation_of
from training.simulate.cohort import EVALUATION_SEEDS, VALIDATION_SEEDS
from training.simulate.styles import TRAINING

_PASSED_OVER = 10_000  # patients: the first ones of the validation chose the checkpoint


def export_expansion_bundle(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt or last.pt of a training", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; its name is the bundle's")],
    version: Annotated[str, typer.Option()],
    card: Annotated[Path, typer.Option(help="Text of CARD.md", exists=True, dir_okay=False)],
    trained_on: Annotated[str, typer.Option(help="On whom, as reports and the summary page say it")],
    patients: Annotated[int, typer.Option(min=20, help="Simulated, to measure its errors on")] = 200,
    created: Annotated[str | None, typer.Option(help="YYYY-MM-DD; today")] = None,
) -> None:
    """Make a bundle of the averaged weights of a checkpoint of system D, and measure its errors."""
    system = ExpansionSystem()
    plan = PLANS["expansion"]
    source = plan.patients(VALIDATION_SEEDS)
    try:
        manifest = export_expansion(
            checkpoint,
            out,
            validation_of(source, TRAINING, _PASSED_OVER),
            patients,
            system=system,
            version=version,
            card=card.read_text("utf-8"),
            trained_on=trained_on,
            created=date.fromisoformat(created) if created else date.today(),
        )
    except (BundleError, DataError, ValueError) as problem:
        typer.echo(explained(problem), err=True)
        raise typer.Exit(2) from problem
    typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")


def evaluate_expansion(
    bundle: Annotated[list[str] | None, typer.Option(help="Bundle by name or folder; may be repeated.")] = None,
    patients: Annotated[int, typer.Option(min=20, help="Simulated, that no training saw.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the patients.")] = 0,
) -> None:
    """The next day's hematoma beside trivial ways, on simulated patients with known truth. RESEARCH USE ONLY."""
    console, errors = Console(), Console(stderr=True)
    plan, spacing_mm = PLANS["expansion"], ExpansionSystem().spacing_mm
    contenders: dict[str, Contender] = {AS_IT_WAS: as_it_was, ORACLE: dilated_to(spacing_mm)}
    try:
        contenders = {n: of_bundle(bundle_named(n, "cpu", ExpansionManifest)) for n in bundle or []} | contenders
    except BundleError as problem:
        errors.print(str(problem), style="red", markup=False)
        raise typer.Exit(2) from problem
    source = replace(
        validation_of(plan.patients(VALIDATION_SEEDS), TRAINING), first_seed=EVALUATION_SEEDS + 100_000 * seed
    )
    numbers = track(range(patients), "evaluating", console=errors)
    found = cases_of(contenders, map(source.batch, numbers), spacing_mm)
    expanders = sum(case.expands for case in found[AS_IT_WAS])
    table = Table(title=f"{patients} simulated patients, {expanders} of whom expand [95 % interval over patients]")
    table.add_column("SIMULATED - RESEARCH USE ONLY")
    rows = {name: figures(cases) for name, cases in found.items()}
    for heading in rows[AS_IT_WAS]:
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(each.text(".2f") for each in row.values()))
    console.print(table)
    console.print(PUBLISHED)
