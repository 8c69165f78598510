"""`python -m tests.soak [NAME ...]`, of `RUNS`: the long forms. Prints a table each; fails where a goal is missed.

SOAK_KILLS=200 SOAK_OBJECTS=20000 SOAK_SENDERS=64 SOAK_EACH=300 SOAK_CONNECTIONS=200 SOAK_MINUTES=10 SOAK_TIMES=20
SOAK_HOURS=24 SOAK_INPUTS=100000 SOAK_TAKEOVERS=5 are what can be set, and what holds where nothing is.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.soak import day, fuzz, kills, senders, slow, takeover, trouble
from tests.soak.figures import Figure, missed, show


def _set(name: str, default: float) -> float:
    return float(os.environ.get(f"SOAK_{name}", default))


def _kills() -> dict[str, int]:
    return {"kills": int(_set("KILLS", 200)), "objects": int(_set("OBJECTS", 20_000))}


RUNS: dict[str, tuple[str, Callable[[Path], list[Figure]]]] = {
    "senders": (
        senders.TITLE,
        lambda folder: senders.measure(folder, senders=int(_set("SENDERS", 64)), each=int(_set("EACH", 300))),
    ),
    "slow": (
        slow.TITLE,
        lambda folder: slow.measure(folder, connections=int(_set("CONNECTIONS", 200)), minutes=_set("MINUTES", 10)),
    ),
    "trouble": (trouble.TITLE, lambda folder: trouble.measure(folder, times=int(_set("TIMES", 20)))),
    "kills": (kills.TITLE, lambda folder: kills.measure(folder, **_kills())),
    "kills-on-postgresql": (
        f"{kills.TITLE}, on PostgreSQL",
        lambda folder: kills.measure_on_postgresql(folder, **_kills()),
    ),
    "takeover": (takeover.TITLE, lambda folder: takeover.measure(folder, times=int(_set("TAKEOVERS", 5)))),
    "fuzz": (fuzz.TITLE, lambda folder: fuzz.measure(folder, inputs=int(_set("INPUTS", 100_000)))),
    "day": (day.TITLE, lambda folder: day.measure(folder, hours=_set("HOURS", 24))),
}


def main(names: list[str]) -> None:
    """Run the named runs in turn; all where nothing is named."""
    if unknown := set(names) - set(RUNS):
        sys.exit(f"no such run: {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
    problems = []
    for name in names or RUNS:
        title, run = RUNS[name]
        folder = Path(tempfile.mkdtemp(prefix=f"soak-{name}-"))
        figures = run(folder)
        show(title, figures)
        if not_reached := missed(figures):
            problems += [f"{name}: {problem} (ledger and log are in {folder})" for problem in not_reached]
        else:
            shutil.rmtree(folder)
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main(sys.argv[1:])
