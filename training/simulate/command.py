"""The commands `simulate` and `demo-patient`: parse and print only."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from ichnode.errors import RefusedSeries
from training.data.dicom import series_in
from training.data.manifest import DataError, write_manifest
from training.simulate import demo_patient as demo
from training.simulate.montage import real_strip, simulated_strip, write_montage
from training.simulate.patient_files import Formats, write_patient
from training.simulate.population import KINDS
from training.simulate.series import Order, simulated
from training.simulate.styles import HELD_OUT, TRAINING

STYLES = {style.name: style for style in (TRAINING, *HELD_OUT) if style.scanner == "wide"}  # others are no CT series
LAST_SEED = 1_000_000  # from there on training draws


def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write to: one folder for each CT, and manifest.jsonl.")],
    n: Annotated[int, typer.Option(min=1, help="Patients.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED - 1, help="Of the first patient; the others follow.")] = 1,
    kind: Annotated[str | None, typer.Option(help=f"Only one of {', '.join(KINDS)}.")] = None,
    style: Annotated[str, typer.Option(help=f"One of {', '.join(STYLES)}.")] = TRAINING.name,
    dicom: Annotated[bool, typer.Option("--dicom", help="Write DICOM studies; the default without --nifti.")] = False,
    nifti: Annotated[bool, typer.Option("--nifti", help="Write ct.nii.gz.")] = False,
    followup: Annotated[bool, typer.Option("--followup", help="Each patient's follow-up CT as well.")] = False,
    slice_mm: Annotated[float, typer.Option(min=0.6, max=10, help="Slice thickness and distance.")] = 5.0,
    background: Annotated[
        Path | None, typer.Option(help="A real head CT without hemorrhage to graft onto.", exists=True)
    ] = None,
    localizer: Annotated[bool, typer.Option("--localizer", help="A localizer in each DICOM study.")] = False,
    dose_page: Annotated[bool, typer.Option("--dose-page", help="A dose page in each DICOM study.")] = False,
    montage: Annotated[Path | None, typer.Option(help="PNG of all CTs.")] = None,
    outline: Annotated[bool, typer.Option("--outline", help="The truth in red on the montage.")] = False,
    beside: Annotated[
        Path | None, typer.Option(help="Folder with a real head CT, last row of the montage.", exists=True)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Write head CTs of simulated patients with their truth. RESEARCH USE ONLY."""
    console = Console(stderr=True)
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind} is none of {', '.join(KINDS)}", param_hint="--kind")
    if style not in STYLES:
        raise typer.BadParameter(f"{style} is none of {', '.join(STYLES)}", param_hint="--style")
    if seed + n > LAST_SEED:
        raise typer.BadParameter(f"seeds from {LAST_SEED} on are those of training", param_hint="--n")
    if nifti and not dicom and (localizer or dose_page):
        raise typer.BadParameter("a part of DICOM studies: add --dicom", param_hint="--localizer, --dose-page")
    _must_exist(device)
    order = Order(
        seeds=range(seed, seed + n),
        kind=kind,
        style=STYLES[style],
        followup=followup,
        slice_mm=slice_mm,
        background=background,
        device=device,
    )
    formats = Formats(dicom=dicom or not nifti, nifti=nifti, localizer=localizer, dose_page=dose_page)
    rows, strips = [], []
    try:
        real = [real_strip(series_in(beside))] if beside else []
        for ct in track(simulated(order), "simulating", total=n * (1 + followup), console=console):
            rows.append(write_patient(ct, out, formats))
            strips += [simulated_strip(ct, outline=outline)] if montage else []
    except (DataError, RefusedSeries, OSError) as problem:
        typer.echo(f"{problem}", err=True)
        raise typer.Exit(2) from problem
    write_manifest(rows, out / "manifest.jsonl")
    typer.echo(f"in {out}: CTs {len(rows)}, simulated patients {n}")
    if montage:
        write_montage([*strips, *real], montage)
        typer.echo(f"montage in {montage}")


def _must_exist(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise typer.BadParameter(f"this machine has no device {device}", param_hint="--device") from problem


def demo_patient(
    out: Annotated[Path, typer.Argument(help="The zip to write.")] = Path("ichnode/simulated_patient.zip"),
) -> None:
    """Make the simulated patient that ichnode ships for its demo."""
    ct = demo.demo_ct()
    demo.write_demo_patient(ct, out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
