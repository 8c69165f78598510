"""The command `evaluate expansion`: parsing and printing."""

from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ichnode.errors import BundleError
from ichnode.inference.bundle import bundle_named
from ichnode.inference.manifest import ExpansionManifest
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
from training.expansion.system import ExpansionSystem
from training.patients.plans import PLANS
from training.patients.simulated import validation_of
from training.simulate.cohort import EVALUATION_SEEDS, VALIDATION_SEEDS
from training.simulate.styles import TRAINING


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
