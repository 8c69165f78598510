"""What the commands `fit ...` have in common: their options, the recipe these make, the run; and `curves`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from ichnode.errors import BundleError
from ichnode.inference.bundle import Bundle, bundle_named, load_bundle, shipped_bundles
from ichnode.inference.manifest import Manifest
from training.data.manifest import DataError
from training.fit.checkpoint import LAST, must_be_of, read
from training.fit.curves import write_curves
from training.fit.journal import EVERY_STEPS
from training.fit.recipe import Recipe
from training.fit.source import Batch, Source
from training.fit.system import System
from training.fit.trainer import Diverged, Validate, fit
from training.simulate.styles import HELD_OUT, Style
from training.simulate.template import TEST_DATA, has_anatomy_of

LAST_PATIENT = 800_000_000  # beyond lie those of the validation

Out = Annotated[Path, typer.Option(help="Folder of the checkpoints, metrics.jsonl and TensorBoard")]
Steps = Annotated[int | None, typer.Option(min=1, help="Last step; without it, until the hours are over")]
DecaySteps = Annotated[
    int, typer.Option(min=0, help="Of --steps, those in which the rate falls to nothing; 0 in a cosine: all")
]
LearningRate = Annotated[float | None, typer.Option(min=0, help="At its highest; without it, the usual one")]
Hours = Annotated[float | None, typer.Option(min=0, help="Stop so long from now, with a checkpoint")]
StartFrom = Annotated[str | None, typer.Option(help="Bundle by name or folder, or folder of a training, to begin from")]
FirstPatient = Annotated[
    int, typer.Option(min=0, max=LAST_PATIENT, help="Simulated; those of an earlier training are not new to it")
]
Resume = Annotated[bool, typer.Option("--resume/--fresh", help="Go on from the last checkpoint in OUT")]


def recipe_of(
    usual: Recipe,
    *,
    steps: int | None,
    decay_steps: int,
    learning_rate: float | None,
    hours: float | None,
) -> Recipe:
    """The usual recipe with what the options say."""
    if decay_steps > (steps or 0):
        raise typer.BadParameter("needs --steps, and as many at least", param_hint="--decay-steps")
    recipe = replace(usual, steps=steps, decay_steps=decay_steps, hours=hours)
    return recipe if learning_rate is None else replace(recipe, learning_rate=learning_rate)


def train(
    recipe: Recipe,
    source: Source[Batch],
    validate: Validate,
    styles: Sequence[str],
    out: Path,
    *,
    resume: bool,
    start_from: str | None,
    usually_from: str | None = None,
) -> bool:
    """Run it and say how it goes; whether the first process came to the end. Raises what `problems_told` tells.

    Without `start_from` it begins `usually_from` there, a shipped bundle by its name.
    """
    weights, begun_from = None, start_from or usually_from
    if resume and (out / LAST).exists():
        begun_from = read(out / LAST, type(recipe.system))["recipe"].get("begun_from")
        if start_from:
            typer.echo(f"goes on from {out / LAST}; what --start-from names is not looked at", err=True)
    elif start_from:
        weights = _weights_of(start_from, recipe.system)
    elif usually_from:
        weights = _of_bundle(load_bundle(shipped_bundles() / usually_from, "cpu", Manifest), recipe.system)
    recipe = replace(recipe, begun_from=begun_from)
    typer.echo(
        f"training on {recipe.device}; a line comes every {EVERY_STEPS} steps, "
        f"a validation of {', '.join(styles)} every {recipe.validate_every_s / 60:.0f} minutes and at the end",
        err=True,
    )
    progress = fit(recipe, source, validate, out, fresh=not resume, weights=weights)
    if progress.styles:  # of several processes the first alone validates
        typer.echo(f"{progress.step} steps; worst style {progress.best:.3f}; checkpoints in {out}")
    return progress.is_done


@contextmanager
def problems_told() -> Iterator[None]:
    """What ends a training is told in a line."""
    try:
        yield
    except (DataError, BundleError, Diverged, OSError) as problem:
        typer.echo(str(problem), err=True)
        raise typer.Exit(2) from problem


def held_out_styles() -> list[Style]:
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


def _weights_of(named: str, system: System) -> Mapping[str, Tensor]:
    """Averaged ones. Raises BundleError for a bundle, and DataError for a training, that is none of this network."""
    if (Path(named) / LAST).is_file():
        stored = read(Path(named) / LAST, type(system))
        must_be_of(stored, system, Path(named))
        weights: Mapping[str, Tensor] = stored["average"]
        return weights
    return _of_bundle(bundle_named(named, "cpu", Manifest), system)


def _of_bundle(bundle: Bundle[Manifest], system: System) -> Mapping[str, Tensor]:
    taken = system.weights_from(bundle.network)
    if taken is None:
        wanted = type(system.network()).__name__.lower()
        raise BundleError(f"{bundle.manifest.name} is no {wanted} that training could go on from, or built otherwise")
    return taken
