"""The commands `fit` and `export` of the published systems: parsing and printing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ichnode.errors import BundleError
from training.data.manifest import DataError, Row, explained
from training.fit.checkpoint import LAST, read
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
from training.fit.recipes import RECIPES, RecipeName
from training.fit.source import Source
from training.fit.validation import StyleScores, evenly
from training.patients.batch import Patients
from training.patients.export import Description, Trained, export
from training.patients.folds import Data, Folds, must_be_of_fold, rows_of
from training.patients.own_data import OwnPatients
from training.patients.plan import Plan
from training.patients.simulated import Cohort, validation_of
from training.patients.synthetic import SyntheticBaselines
from training.simulate.cohort import TRAINING_SEEDS, VALIDATION_SEEDS
from training.simulate.styles import TRAINING, Style

_warn = partial(typer.echo, err=True)
_MEASURED_ON = 200  # patients
_CARD = """# {name}

RESEARCH USE ONLY - not for clinical use. {about} Written by `fit` at the end of a training on {whom}: its probabilities
are calibrated, nothing else of it was measured. `python -m training evaluate` does.
"""
_OWN_OUTCOME = "poor as labelled in the data that it was measured on"
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
        data: Data = None,
        share: Annotated[float, typer.Option(min=0, max=1, help="Of the batches, that come from the manifest")] = 0.5,
        folds: Folds = None,
        fold: Annotated[int, typer.Option(min=0, help="Of --folds, the one that is not learned from")] = 0,
        bundle: Annotated[
            Path | None,
            typer.Option(
                help="Folder of the bundle, version 0.1, that it ends with; its name is the bundle's; OUT/SYSTEM"
            ),
        ] = None,
        no_bundle: Annotated[bool, typer.Option("--no-bundle", help="End with checkpoints alone")] = False,
    ) -> None:
        if variant is not None and variant not in whole.variants:
            raise typer.BadParameter(f"one of {', '.join(whole.variants)}", param_hint="--variant")
        plan = whole.variants[variant] if variant else whole
        if bundle is not None and (plan.export is None or not plan.system.is_whole):
            raise typer.BadParameter(
                "no pipeline runs this variant; `evaluate --run` measures it", param_hint="--bundle"
            )
        if bundle is not None and no_bundle:
            raise typer.BadParameter("and --no-bundle", param_hint="--bundle")
        if folds and not data:
            raise typer.BadParameter("needs --data", param_hint="--folds")
        if keep_in and not patients:
            raise typer.BadParameter("needs --patients", param_hint="--keep-in")
        chosen = recipe_of(
            plan.recipe(RECIPES[recipe](plan.system)),
            steps=steps,
            decay_steps=decay_steps,
            learning_rate=learning_rate,
            hours=hours,
        )
        cohort = Cohort(patients=patients, folder=keep_in or out / "patients") if patients else None
        simulated = plan.patients(TRAINING_SEEDS + first_patient, chosen.device, chosen.batch, cohort)
        source: Source[Patients] = simulated
        styles: dict[str, Source[Patients]] = {style.name: validation_of(simulated, style) for style in _styles()}
        with problems_told():
            if data:
                chosen = replace(chosen, own=LearnedFrom.of(data, folds, fold, plan.alike_in))
                own, styles["own data"] = _own(plan, rows_of(data, folds, fold, plan.alike_in), chosen.batch)
                source = MixedSource(own=own, simulated=simulated, share=share, processes=processes(chosen.backend))
            if plan.synthetic:
                source = SyntheticBaselines(source=source, spacing_mm=plan.system.spacing_mm, share=plan.synthetic)
            validate = StyleScores(styles, plan.score, batches=plan.validation_patients, device=chosen.device)
            done = train(
                chosen,
                source,
                validate,
                tuple(styles),
                out,
                resume=resume,
                start_from=start_from,
                usually_from=plan.begins_from,
            )
        usual = out / plan.export.kind_name if plan.export and not variant and not no_bundle else None
        if done and (folder := bundle or usual):
            described = _as_trained(plan, out / LAST, folder.name, data, share)
            own_rows = partial(_own_rows, whole, data, folds, fold)
            if not _write_bundle(whole, out / LAST, folder, described, _MEASURED_ON, own_rows):
                if bundle is not None:
                    raise typer.Exit(2)
                _warn("the training has come to its end, without a bundle")

    return command


def _as_trained(plan: Plan, checkpoint: Path, named: str, data: Path | None, share: float) -> Description:
    """Of the bundle that a training ends with, what the training itself knows."""
    whom = "simulated patients" if share < 1 or not data else ""
    whom = " and ".join(filter(None, (whom, data.name if data else "")))
    begun_from = read(checkpoint, type(plan.system))["recipe"].get("begun_from")
    whom += f", from {begun_from}" if begun_from else ""
    return Description(
        version="0.1",
        card=_CARD.format(name=named, about=plan.about, whom=whom),
        trained_on=whom,
        created=date.today(),
        outcome=_OWN_OUTCOME if data else None,
    )


def _own(plan: Plan, rows: Sequence[Row], heads: int) -> tuple[OwnPatients, OwnPatients]:
    """Patients to train on and some to validate with. Raises DataError where there are none."""
    train_on, validated = (plan.own_patients(rows, split) for split in ("train", "validation"))
    typer.echo(f"own patients: {len(train_on)} to train on, {len(validated)} to validate with", err=True)
    shown = evenly(validated, plan.validation_patients)
    return (
        plan.own(train_on, heads, as_they_are=False, tell=_warn),
        plan.own(shown, as_they_are=True, tell=_warn),
    )


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
        patients: Annotated[
            int, typer.Option(min=20, help="Simulated, to measure its errors on, where there is no manifest")
        ] = _MEASURED_ON,
        created: Annotated[str | None, typer.Option(help="YYYY-MM-DD; today")] = None,
        data: Data = None,
        folds: Folds = None,
        fold: Annotated[int, typer.Option(min=0, help="Of --folds, the one that was not learned from")] = 0,
    ) -> None:
        try:
            described = Description(
                version=version,
                card=card.read_text("utf-8"),
                trained_on=trained_on,
                created=date.fromisoformat(created) if created else date.today(),
                outcome=_OWN_OUTCOME if data else None,
            )
        except (OSError, ValueError) as problem:
            typer.echo(str(problem), err=True)
            raise typer.Exit(2) from problem
        own_rows = partial(_own_rows, whole, data, folds, fold)
        if not _write_bundle(whole, checkpoint, out, described, patients, own_rows):
            raise typer.Exit(2)

    return command


def _own_rows(whole: Plan, data: Path | None, folds: int | None, fold: int, made: Trained[Any]) -> Sequence[Row] | None:
    if data and folds:
        must_be_of_fold("the training", made, data, folds, fold, whole.alike_in)
    return rows_of(data, folds, fold, whole.alike_in) if data else None


def _write_bundle(
    whole: Plan,
    checkpoint: Path,
    out: Path,
    described: Description,
    patients: int,
    own_rows: Callable[[Trained[Any]], Sequence[Row] | None],
) -> bool:
    """Whether it came about, measured on so many simulated patients, or on own ones of split validation.

    What goes wrong is a line.
    """
    try:
        plan, made = whole.trained(checkpoint)
        if plan.export is None or not made.system.is_whole:
            raise DataError(f"{checkpoint} is of a variant that no pipeline runs; `evaluate --run` measures it")
        simulated = plan.patients(VALIDATION_SEEDS)
        source: Source[Patients] = validation_of(simulated, TRAINING, _PASSED_OVER)
        others = [replace(validation_of(simulated, style, _PASSED_OVER), followup=False) for style in _styles()]
        if rows := own_rows(made):
            source = own = plan.own(plan.own_patients(rows, "validation"), as_they_are=True, tell=_warn)
            patients = len(own.patients)
        manifest = export(plan.export, made, out, source, others, patients, described=described)
    except (BundleError, DataError, OSError, ValueError) as problem:
        _warn(explained(problem))
        return False
    typer.echo(f"{out}: {manifest.name} {manifest.version}, SHA-256 {manifest.weights_sha256}")
    return True
