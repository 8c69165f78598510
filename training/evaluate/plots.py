"""Plots of the report as PNG: agreement of volumes, reliability, Dice and sensitivity by volume."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, PercentFormatter

from training.evaluate.bootstrap import Figure as Measured
from training.evaluate.calibration import expected_calibration_error, reliability
from training.evaluate.metrics import VOLUME_BINS_ML
from training.evaluate.report import Report, provenance
from training.evaluate.summary import ALL

# Okabe and Ito 2008: told apart by all
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#f0e442")
_GREY = "#555555"
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def write_plots(reports: Sequence[Report], folder: Path) -> None:
    """Four PNG files into `folder`. Who marks nothing at all is not drawn."""
    marking = [r for r in reports if any(s.all_types.predicted_ml for s in r.scores)]
    drawn = {
        "bland-altman.png": _bland_altman(marking),
        "reliability.png": _reliability(marking),
        "dice-by-volume.png": _dice_by_volume(marking),
        "sensitivity-by-volume.png": _sensitivity_by_volume(marking),
    }
    note = provenance(score.simulated for score in reports[0].scores)
    for name, figure in drawn.items():
        figure.text(0.995, 0.01, note, ha="right", va="bottom", fontsize=8, color="#b00020", weight="bold")
        figure.savefig(folder / name, dpi=150, facecolor="white")


def _figure(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(rect=(0, 0.04, 1, 0.96)))
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6", linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, list(axes)


def _volume_axis(ax: Axes, label: str) -> None:
    if not ax.dataLim.intervalx[1] > 0:  # nobody bleeds
        ax.set_xlim(0.1, 100)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(_PLAIN)
    ax.set_xlabel(label)


def write_legend(figure: Figure) -> None:
    """Each name once, whichever panels show it, above them all."""
    shown = {name: line for ax in figure.axes for line, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    columns = max(1, int(figure.get_figwidth() / 3.5))
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=columns, frameon=False, fontsize=8)


def _bland_altman(reports: Sequence[Report]) -> Figure:
    """Error over the mean of both volumes, one panel for each contender (Bland and Altman, Lancet 1986)."""
    figure, axes = _figure(max(1, len(reports)), 1.2 + 3.6 * max(1, len(reports)), 4.4)
    axes[0].set_ylabel("predicted - true volume (mL)")
    axes[0].set_yscale("symlog", linthresh=1)
    axes[0].yaxis.set_major_formatter(_PLAIN)
    for ax, report, colour in zip(axes, reports, cycle(COLOURS), strict=False):
        pairs = [s.all_types for s in report.scores if s.bleeds]
        means = [(p.truth_ml + p.predicted_ml) / 2 for p in pairs]
        ax.scatter(means, [p.error_ml for p in pairs], s=16, color=colour, alpha=0.6, linewidths=0)
        ax.axhline(0, color=_GREY, linewidth=0.8)
        bias, low, high = (report.styles[ALL][key].value for key in ("bias_ml", "lower_limit_ml", "upper_limit_ml"))
        title = report.contender
        if bias is not None and low is not None and high is not None:
            ax.axhline(bias, color=colour, linewidth=1.4)
            ax.axhline(low, color=colour, linewidth=1.2, linestyle="--")
            ax.axhline(high, color=colour, linewidth=1.2, linestyle="--")
            title += f"\nbias {bias:+.1f} mL, limits {low:+.1f} to {high:+.1f} mL"
        ax.set_title(title, fontsize=9)
        _volume_axis(ax, "mean of predicted and true volume (mL)")
    return figure


def _reliability(reports: Sequence[Report]) -> Figure:
    """How often a voxel of the head with this probability is hemorrhage."""
    figure, (ax,) = _figure(1, 5.4, 5.6)
    ax.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=":")
    for report, colour in zip(reports, cycle(COLOURS), strict=False):
        histograms = [s.histogram for s in report.scores if s.histogram is not None]
        if not histograms:
            continue
        predicted, true, head_ml = reliability(np.stack(histograms))
        error = expected_calibration_error(np.stack(histograms))
        seen = head_ml > 0
        name = f"{report.contender} (ECE {error:.4f})"
        ax.plot(predicted[seen], true[seen], "o-", color=colour, markersize=5, linewidth=1.5, label=name)
    ax.set(xlabel="probability given by the model", ylabel="share of voxels that are hemorrhage")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    write_legend(figure)
    return figure


def _dice_by_volume(reports: Sequence[Report]) -> Figure:
    """Each patient, and the median of each volume bin."""
    figure, (ax,) = _figure(1, 7.2, 4.6)
    for report, colour in zip(reports, cycle(COLOURS), strict=False):
        pairs = [(s.all_types.truth_ml, s.all_types.dice) for s in report.scores if s.bleeds]
        volumes, dice = np.array(pairs, np.float64).reshape(-1, 2).T
        ax.scatter(volumes, dice, s=12, color=colour, alpha=0.35, linewidths=0)
        inside = [(volumes >= low) & (volumes < high) for low, high in VOLUME_BINS_ML]
        medians = [(np.median(volumes[i]), np.median(dice[i])) for i in inside if i.any()]
        name = f"{report.contender} (line: median)"
        ax.plot(*np.array(medians).reshape(-1, 2).T, "o-", color=colour, linewidth=2, label=name)
    _volume_axis(ax, "true volume (mL)")
    ax.set(ylabel="Dice, all types together", ylim=(-0.02, 1.02))
    write_legend(figure)
    return figure


def _sensitivity_by_volume(reports: Sequence[Report]) -> Figure:
    """Share of patients and of lesions that are found, with 95 % intervals."""
    figure, axes = _figure(2, 10.5, 4.4)
    for number, (report, colour) in enumerate(zip(reports, cycle(COLOURS), strict=False)):
        beside = 0.14 * (number - (len(reports) - 1) / 2)
        for ax, found in zip(axes, (report.patients_by_volume, report.lesions_by_volume), strict=True):
            _points(ax, list(found.values()), beside, colour, report.contender)
            names = [f"{key.removesuffix(' mL')}\nn = {f.patients}" for key, f in found.items()]
            ax.set_xticks(range(len(names)), names, fontsize=8)
    for ax, title in zip(axes, ("patients, by volume of all hemorrhage", "lesions, by their own volume"), strict=True):
        ax.set(xlabel="mL, and number of patients", ylim=(-0.03, 1.03))
        ax.set_title(title, fontsize=10)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(visible=False, axis="x")
    axes[0].set_ylabel("found")
    write_legend(figure)
    return figure


def _points(ax: Axes, found: Sequence[Measured], beside: float, colour: str, name: str) -> None:
    """One point for each bin that has patients, with its interval where there is one."""
    known = [(place, f, f.value) for place, f in enumerate(found) if f.value is not None]
    if not known:
        return
    below = [value - (value if f.low is None else f.low) for _, f, value in known]
    above = [(value if f.high is None else f.high) - value for _, f, value in known]
    ax.errorbar(
        [place + beside for place, _, _ in known],
        [value for *_, value in known],
        [below, above],
        fmt="o",
        color=colour,
        markersize=7,
        elinewidth=1.6,
        capsize=3,
        label=name,
        clip_on=False,
    )
