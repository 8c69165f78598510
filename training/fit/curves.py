"""Curves: loss, learning rate and validation of a training as a picture, from the metrics.jsonl of its runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from training.fit.journal import METRICS


def write_curves(runs: Sequence[Path], out: Path) -> None:
    """A PNG of one training; each of `runs` went on where the one before ended, or began anew from its bundle.

    Raises FileNotFoundError.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    loss, rate, score = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 2))
    end, colours = 0, dict[str, str]()  # one for each style, in all runs
    for run in runs:
        rows = _rows(run / METRICS, end)
        end = max((row["step"] for row in rows), default=end)
        trained, validated = ([row for row in rows if row["kind"] == kind] for kind in ("training", "validation"))
        steps = [row["step"] for row in trained]
        loss.plot(steps, [row["loss"] for row in trained], lw=1, label=run.name)
        rate.plot(steps, [row["rate"] for row in trained], lw=1)
        for style in dict.fromkeys(key for row in validated for key in row if key not in ("step", "kind")):
            points = [(row["step"], row[style]) for row in validated if style in row]  # --data may come or go
            label = None if style in colours else style
            colour = colours.setdefault(style, f"C{len(colours)}")
            score.plot(*zip(*points, strict=True), "o-", ms=4, color=colour, label=label)
    loss.set_ylabel("loss, mean of 20 steps")
    rate.set_ylabel("learning rate")
    score.set(ylabel="validation score", xlabel="step", ylim=(0, 1))
    for axis in (loss, rate, score):
        axis.grid(color="#e6e6e6")
    for axis in (loss, score):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.suptitle("Trained on simulated patients - RESEARCH USE ONLY", fontsize=10, color="#b00020")
    figure.savefig(out, dpi=110)


def _rows(file: Path, end: int) -> list[dict[str, Any]]:
    """What the journal says; steps that were counted from 0 again are counted on from `end`."""
    lines = file.read_text("utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]  # a kill may cut the last
    before = end if rows and rows[0]["step"] <= end else 0
    return [{**row, "step": before + row["step"]} for row in rows]
