"""Journal: a progress line, TensorBoard scalars and metrics.jsonl of one training run."""

import json
import sys
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

EVERY_STEPS = 20
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class Journal:
    """Means over the last steps, and every validation. Steps after `step`, where the run goes on, are done again."""

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / METRICS
        lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
        path.write_text("".join(line for line in lines if _is_done(line, step)), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(str(folder / TENSORBOARD), purge_step=step + 1)
        self._steps: list[dict[str, float]] = []

    def step(self, step: int, values: dict[str, float]) -> None:
        """Collect one step; written when enough have come together."""
        self._steps.append(values)
        means = {name: sum(each[name] for each in self._steps) / len(self._steps) for name in values}
        is_due = len(self._steps) == EVERY_STEPS
        self._show(step, means, end="\n" if is_due and not sys.stdout.isatty() else "\r")
        if is_due:
            self._steps.clear()
            self._write(step, "training", means)

    def validation(self, step: int, scores: dict[str, float]) -> None:
        """Write the score of each style."""
        self._show(step, {"worst style": min(scores.values()), **scores}, end="\n")
        self._write(step, "validation", scores)

    def close(self) -> None:
        """Nothing is lost."""
        self._file.close()
        self._board.close()

    def _write(self, step: int, kind: str, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def _show(self, step: int, values: dict[str, float], end: str) -> None:
        if end == "\n" or sys.stdout.isatty():
            shown = "  ".join(f"{name} {value:.3g}" for name, value in values.items())
            print(f"step {step}  {shown}", end=end, flush=True)


def _is_done(line: str, step: int) -> bool:
    """Whether a whole line tells of one of the first `step` steps: a kill may cut the last."""
    return line.endswith("\n") and int(json.loads(line)["step"]) <= step
