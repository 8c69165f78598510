"""The command `evaluate` of the published systems: parsing and printing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ichnode.errors import BundleError, RefusedSeries
from ichnode.inference.bundle import bundle_named, shipped_bundles
from training.data.manifest import DataError, Split, read_manifest
from training.evaluate.bootstrap import Figure
from training.evaluate.report import MIXED, REAL, SIMULATED, provenance
from training.fit.checkpoint import LAST
from training.fit.source import Source
from training.patients.batch import Patients
from training.patients.comparison import compared
from training.patients.evaluation import (
    COMPARED,
    Contender,
    Evaluation,
    Rows,
    limited,
    limits_of,
    picture_of,
    shown,
    write_section,
)
from training.patients.folds import Data, Folds, must_be_of_fold, rows_of
from training.patients.plan import Plan
from training.patients.plots import write_picture
from training.patients.simulated import validation_of
from training.simulate.cohort import EVALUATION_SEEDS, VALIDATION_SEEDS
from training.simulate.styles import TRAINING

_WHOSE = {SIMULATED: " (simulated patients)", MIXED: " (real and simulated patients)", REAL: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A network, and on whom it is measured."""

    plan: Plan  # that shows patients as it reads them
    contender: Contender
    steps: int | None = None  # of a training
    fold: int | None = None  # the one that it did not learn from

    @property
    def trained(self) -> str:
        """How."""
        return f"{self.steps} steps, voxels of {' x '.join(f'{mm:g}' for mm in self.plan.system.spacing_mm)} mm"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whom:
    """The patients that were asked for."""

    patients: int
    first_seed: int
    data: Path | None
    split: Split
    folds: int | None

    def title(self, of: str) -> str:
        """With the provenance in words."""
        if self.data is None:
            return f"{self.patients} simulated patients from seed {self.first_seed}"
        return f"{self.data.name}{_WHOSE[of]}, " + (f"{self.folds} folds" if self.folds else f"split {self.split}")

    def provenance(self) -> str:
        """The line that stands beside the figures. Raises DataError and OSError."""
        if self.data is None:
            return SIMULATED
        rows = read_manifest(self.data)
        return provenance(row.is_simulated for row in rows if self.folds or row.split == self.split)

    def source(self, plan: Plan, fold: int | None, tell: Callable[[str], None]) -> tuple[Source[Patients], int]:
        """And how many. Without a fold those of all; who is left out is told. Raises DataError and OSError."""
        if self.data is None:
            source = validation_of(plan.patients(VALIDATION_SEEDS), TRAINING)
            return replace(source, first_seed=self.first_seed), self.patients
        if self.folds and fold is None:
            rows = [row.model_copy(update={"split": self.split}) for row in read_manifest(self.data)]
        else:
            rows = list(rows_of(self.data, self.folds, fold or 0, plan.alike_in))
        own = plan.own(plan.own_patients(rows, self.split), as_they_are=True, tell=tell)
        return own, len(own.patients)


def evaluate_of(name: str, whole: Plan) -> Callable[..., None]:
    """The command that measures bundles and trainings of that system: unless told otherwise the shipped bundle."""

    def command(
        bundle: Annotated[
            list[str] | None,
            typer.Option(
                help="Bundle by name or folder; may be repeated. Without this, --run and --data the shipped one."
            ),
        ] = None,
        run: Annotated[
            list[str] | None,
            typer.Option(
                help="NAME=FOLDER of a training, of a variant too; may be repeated. With --folds FOLDER has one of "
                "each, fold-0, fold-1 and so on."
            ),
        ] = None,
        patients: Annotated[int, typer.Option(min=20, help="Simulated, that no training saw.")] = 100,
        seed: Annotated[int, typer.Option(min=0, help="Of the simulated patients.")] = 0,
        data: Data = None,
        split: Annotated[str, typer.Option(help="Of the manifest: train, validation or test.")] = "test",
        folds: Folds = None,
        out: Annotated[Path | None, typer.Option(help="Markdown file to put the tables into", dir_okay=False)] = None,
        section: Annotated[
            str | None, typer.Option(help="Of that file, where trainings alone are measured; 'trainings compared'.")
        ] = None,
    ) -> None:
        console, errors = Console(), Console(stderr=True)
        whom = _Whom(
            patients=patients,
            first_seed=EVALUATION_SEEDS + 100_000 * seed,
            data=data,
            split="test" if folds else split,  # type: ignore[arg-type]
            folds=folds,
        )
        if section and (bundle or data or not (run and out)):
            raise typer.BadParameter("is for --run and --out without --bundle and --data", param_hint="--section")
        try:
            if folds and (bundle or not data):
                raise DataError("--folds needs --data, and measures trainings: no fold is new to a bundle")
            asked = bundle or ([] if run or data else [str(shipped_bundles() / name)])
            measured = _distinct([*_bundles(whole, asked), *_runs(whole, run or [], whom)])
            of = whom.provenance()
            rows = _rows(whole, measured, whom, errors)
        except (BundleError, DataError, RefusedSeries, OSError) as problem:
            errors.print(str(problem), style="red", markup=False)
            raise typer.Exit(2) from problem
        trainings = [] if folds else [name for name, each in measured.items() if each.steps is not None]
        found = Evaluation(
            title=". ".join([whom.title(of), *_told_of(measured)]),
            rows=_with_means(rows, run or [], folds),
            limits=() if data else limits_of(whole.evaluate),
            published=whole.evaluate.published,
            provenance=of,
            compared=compared(rows, trainings, whole.evaluate.more_is_better) if trainings else (),
        )
        console.print(_table(found))
        for line in (COMPARED, *found.compared) if found.compared else ():
            console.print(line, markup=False)
        for limit in found.limits:
            console.print(f"{limit.label}: AUC {limited(limit)}")
        console.print(found.published, soft_wrap=True)
        if out:
            heading = name
            if data:
                heading += f" on {data.name}"
            elif run and not bundle:
                heading += f", {section or 'trainings compared'}"
            picture = picture_of(out, heading)
            write_section(out, heading, found.markdown(), picture if write_picture(found, picture) else None)

    return command


def _rows(whole: Plan, measured: dict[str, _Measured], whom: _Whom, errors: Console) -> Rows:
    """Networks in their order, then the ways that need none, on all patients."""
    rows: Rows = {}
    first = next((each.plan for each in measured.values()), whole)
    groups: dict[tuple[int, int | None], Plan] = {(id(first), None): first}
    groups |= {(id(each.plan), each.fold): each.plan for each in measured.values()}
    for (_, fold), plan in groups.items():
        here = {name: each.contender for name, each in measured.items() if each.plan is plan and each.fold == fold}
        source, count = whom.source(plan, fold, partial(errors.print, style="yellow", markup=False))
        batches = map(source.batch, track(range(count), "evaluating", console=errors))
        found = whole.evaluate.rows(here, batches, plan.system)
        rows |= found | rows if fold is None else {name: found[name] for name in here}
    return {name: rows[name] for name in sorted(rows, key=lambda name: name not in measured)}


def _distinct(named: Sequence[tuple[str, _Measured]]) -> dict[str, _Measured]:
    """Raises DataError where two have one name."""
    found = dict(named)
    if len(found) < len(named):
        raise DataError("two have the same name: --run NAME=FOLDER says another")
    return found


def _bundles(whole: Plan, names: Sequence[str]) -> list[tuple[str, _Measured]]:
    """By name and version. Raises BundleError and DataError."""
    found = []
    for named in names:
        bundle = bundle_named(named, "cpu", whole.evaluate.kind)
        plan = whole.on(bundle.manifest.shape, bundle.manifest.grid_spacing_mm)
        contender = Contender(network=bundle.network, system=plan.system, manifest=bundle.manifest)
        found.append((f"{bundle.manifest.name} {bundle.manifest.version}", _Measured(plan=plan, contender=contender)))
    return found


def _runs(whole: Plan, named: Sequence[str], whom: _Whom) -> list[tuple[str, _Measured]]:
    """Trainings, each as often as there are folds. Raises DataError and OSError."""
    found = []
    for each in named:
        name, folder = _name_and_folder(each)
        for fold in range(whom.folds) if whom.folds else (None,):
            plan, made = whole.trained((folder if fold is None else folder / f"fold-{fold}") / LAST)
            if whom.data and whom.folds and fold is not None:
                must_be_of_fold(name, made, whom.data, whom.folds, fold, whole.alike_in)
            contender = Contender(network=made.system.measured(made.network), system=made.system)
            label = name if fold is None else f"{name}, fold {fold}"
            found.append((label, _Measured(plan=plan, contender=contender, steps=made.steps, fold=fold)))
    return found


def _told_of(measured: Mapping[str, _Measured]) -> list[str]:
    """How long the trainings were, those together that were alike."""
    alike: dict[str, list[str]] = {}
    for name, each in measured.items():
        if each.steps is not None:
            alike.setdefault(each.trained, []).append(name)
    return [f"{how}: {', '.join(names)}" for how, names in alike.items()]


def _name_and_folder(named: str) -> tuple[str, Path]:
    name, is_named, folder = named.rpartition("=")
    return name if is_named else Path(folder).name, Path(folder)


def _with_means(rows: Rows, named: Sequence[str], folds: int | None) -> Rows:
    """Of each training the mean over its folds, from the lowest to the highest, before all else."""
    means: Rows = {}
    for name in (_name_and_folder(each)[0] for each in named if folds):
        of_folds = [rows[f"{name}, fold {fold}"] for fold in range(folds or 0)]
        means[f"{name}, mean of {folds} folds [lowest-highest]"] = {
            heading: _mean_of([row[heading] for row in of_folds]) for heading in of_folds[0]
        }
    return means | rows


def _mean_of(figures: Sequence[Figure]) -> Figure:
    values = [figure.value for figure in figures if figure.value is not None]
    if not values:
        return Figure(value=None, low=None, high=None, patients=0)
    patients = sum(figure.patients for figure in figures)
    return Figure(value=sum(values) / len(values), low=min(values), high=max(values), patients=patients)


def _table(found: Evaluation) -> Table:
    """A column for each contender."""
    table = Table(title=f"{found.title} [95 % interval over patients]", caption=found.provenance)
    table.add_column("")
    for name in found.rows:
        table.add_column(name, justify="right")
    for heading in next(iter(found.rows.values())):
        table.add_row(heading, *(shown(row[heading]) for row in found.rows.values()))
    return table
