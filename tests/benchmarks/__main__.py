"""`python -m tests.benchmarks [NAME ...]`, of `BENCHMARKS`: one table each; all where nothing is named."""

import sys

from tests.benchmarks import all_models, end_to_end, idle, read_volume, receive, review, scale, simulate, write_results
from tests.benchmarks.table import show

BENCHMARKS = {
    "receive": receive,
    "idle": idle,
    "read": read_volume,
    "write": write_results,
    "models": all_models,
    "end-to-end": end_to_end,
    "simulate": simulate,
    "scale": scale,
    "review": review,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks in turn."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        show(BENCHMARKS[name].TITLE, BENCHMARKS[name].measure())


if __name__ == "__main__":
    main(sys.argv[1:])
