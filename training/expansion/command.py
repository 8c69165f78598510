"""The command `export expansion`: parsing and printing."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from ichnode.errors import BundleError
from training.data.manifest import explained
from training.expansion.export import export_expansion
from training.expansion.system import ExpansionSystem
from training.patients.plans import expansion
from training.patients.simulated import SimulatedPatients, validation_of
from training.simulate.cohort import VALIDATION_SEEDS
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
    plan = expansion(system)
    source = SimulatedPatients(
        grid=plan.grid, style=TRAINING, kinds=plan.kinds, first_seed=VALIDATION_SEEDS, followup=plan.followup
    )
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
    except (BundleError, ValueError) as problem:
        typer.echo(explained(problem), err=True)
        raise typer.Exit(2) from problem
    typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")
