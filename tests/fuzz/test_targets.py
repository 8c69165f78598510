"""A short run of each fuzzed reader; the long ones are `python -m tests.fuzz` (RELIABILITY.md 6)."""

import subprocess
import sys

import pytest

from tests.soak.fuzz import READERS

pytest.importorskip("atheris")
RUNS = {"associate": 20_000, "command": 20_000, "data-set": 20_000, "conversation": 2_000}


@pytest.mark.parametrize("target", RUNS)
def test_nothing_that_is_received_breaks_a_reader(target, tmp_path):
    options = f"-runs={RUNS[target]}", "-seed=1", "-rss_limit_mb=0"  # its peak would be that of pytest, which forks it
    command = [sys.executable, "-m", "tests.fuzz", target, str(tmp_path / "corpus"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {RUNS[target]} runs" in done.stderr


def test_the_targets_of_the_command_line_are_those_that_are_tried_here_and_in_the_soak():
    from tests.fuzz.targets import TARGETS

    assert set(RUNS) == set(READERS) == set(TARGETS)
