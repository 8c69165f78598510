"""Plots of an evaluation: ROC curves, and what was said beside what came true; one picture for each section."""

from collections.abc import Sequence
from itertools import product
from math import ceil
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve  # type: ignore[import-untyped]

from training.evaluate.bootstrap import Pairs
from training.evaluate.plots import COLOURS, write_legend
from training.patients.evaluation import AUC, Evaluation

_WIDTH, _HEIGHT, _COLUMNS = 4.2, 4.0, 3  # inches of a panel; panels in a row
_NAME_HEIGHT = 0.2  # inches of a line of the legend
_NOTE_LETTERS = 60  # of the note below, a panel
_GREY = "#999999"
_LINES = ("-", "--", ":")  # where there are more rows than colours
Look = tuple[str, str]  # line and colour of a row


def write_picture(found: Evaluation, path: Path) -> bool:
    """A panel for each measure that has something to draw, into a PNG; whether there was any."""
    panels = {
        heading: drawn
        for heading in next(iter(found.rows.values()))
        if (drawn := {name: row[heading].pairs for name, row in found.rows.items() if row[heading].pairs})
    }
    if not panels:
        return False
    columns = min(_COLUMNS, len(panels))
    rows = ceil(len(panels) / columns)
    height = rows * _HEIGHT + ceil(len(found.rows) / columns) * _NAME_HEIGHT
    figure = Figure(figsize=(columns * _WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    looks = dict(zip(found.rows, product(_LINES, COLOURS), strict=False))
    for ax, (heading, drawn) in zip(axes, panels.items(), strict=False):
        (_roc if heading.startswith(AUC) else _scatter)(ax, heading, drawn, looks)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    write_legend(figure)
    note = f"{found.provenance}; {found.title}"
    figure.supxlabel(fill(note, width=columns * _NOTE_LETTERS), fontsize=8, color="#b00020")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white")
    return True


def _roc(ax: Axes, heading: str, drawn: dict[str, Pairs], looks: dict[str, Look]) -> None:
    ax.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--")
    for name, pairs in drawn.items():
        said, true = np.array(pairs).T
        if 0 < (true > 0.5).sum() < len(true):
            false_rate, true_rate, _ = roc_curve(true > 0.5, said)
            ax.plot(false_rate, true_rate, linestyle=looks[name][0], color=looks[name][1], label=name)
    ax.set(title=heading, xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")


def _scatter(ax: Axes, heading: str, drawn: dict[str, Pairs], looks: dict[str, Look]) -> None:
    """Both axes alike, the line is where they agree."""
    both = np.concatenate([np.array(pairs) for pairs in drawn.values()])
    ends: Sequence[float] = (float(both.min()), float(both.max()))
    ax.plot(ends, ends, color=_GREY, linewidth=0.8, linestyle="--")
    for name, pairs in drawn.items():
        said, true = np.array(pairs).T
        ax.scatter(true, said, s=9, color=looks[name][1], alpha=0.7, label=name)
    ax.set(title=f"What {heading} is of", xlabel="came true, mL", ylabel="said, mL")
